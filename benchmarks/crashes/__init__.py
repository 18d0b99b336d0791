"""What a crash and a damaged disk cost: a served engine killed, a ledger damaged, a start timed."""
