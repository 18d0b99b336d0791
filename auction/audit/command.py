"""`fanbid ledger`: every charge of a campaign with its why, and a check of all of them, also beside a server."""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from auction.audit.lines import HEADER, line_of
from auction.audit.verify import KEYS_FILE, LEDGER_FILE, Verified, verify
from auction.campaigns.store import CampaignStore, NoSuchCampaign, StoreUnavailable
from auction.campaigns.token_command import STORE_FILE
from pacing.budget.owner_redis import is_shared, owner_of
from pacing.data_folder import add_data_argument, data_folder
from pacing.facts import row_text
from pacing.ledger.errors import LedgerError
from pacing.ledger.listed import ListedFiles
from pacing.ledger.owners import qualified
from pacing.ledger.reading import LedgerFile
from pacing.ledger.statement import EXPLAINED, MAX_PAGE, StatementPage, explained, statement_page
from pacing.money import text_from_micros

QUIET_S = 2.0
Page = tuple[StatementPage, np.ndarray]
"""A page of a statement, and its charges as EXPLAINED[n]."""
Statement = Callable[[int, int, int, int], Page]
"""statement(campaign_id, after, limit, at_place), as `pacing.ledger.statement.statement_page`."""
_DEFAULT_LIMIT = 50
_TABLE = (
    ("row", 12), ("when (UTC)", 19), ("viewer", 20), ("creative", 12), ("bid", 12), ("paid", 12), ("auction", 7),
    ("floor", 12), ("p", 12), ("alpha", 14), ("value", 14), ("shade", 7), ("verdict", 13),
)  # fmt: skip


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's flags."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    show = actions.add_parser("show", help="list a campaign's charges, each with bid, floor, p, alpha, value and shade")
    show.add_argument("campaign_id", type=int, metavar="CAMPAIGN", help="the campaign's id")
    show.add_argument("--after", type=int, default=0, metavar="PLACE", help="begin behind this place of the list")
    show.add_argument(
        "--limit", type=int, metavar="N", help=f"at most so many charges; default {_DEFAULT_LIMIT}, with --csv all"
    )
    shape = show.add_mutually_exclusive_group()
    shape.add_argument("--csv", action="store_true", help="comma-separated, with exact amounts in currency units")
    shape.add_argument("--json", action="store_true", help="one JSON object a line, with whole micros")
    check = actions.add_parser("verify", help="derive every charge and bid again; the first difference ends it with 1")
    for action in (show, check):
        add_data_argument(action)


def main(args: argparse.Namespace) -> int:
    """Run the command.

    Returns:
        0: shown, or nothing differs; 1: a difference, or the ledger cannot be read.

    Raises:
        ValueError, FileNotFoundError: a flag, the folder or the campaign is of no use.
    """
    try:
        return _verify(data_folder(args)) if args.action == "verify" else _show(args)
    except (LedgerError, StoreUnavailable) as error:
        print(f"fanbid ledger: {error}", file=sys.stderr)
        return 1


def _show(args: argparse.Namespace) -> int:
    if not 1 <= args.campaign_id < 2**64:
        raise ValueError(f"CAMPAIGN {args.campaign_id}: not in 1..{2**64 - 1}")
    limit = args.limit if args.limit is not None else (2**63 - 1 if args.csv else _DEFAULT_LIMIT)
    if limit < 1:
        raise ValueError(f"--limit {limit}: at least 1")
    if not 0 <= args.after < 2**63:
        raise ValueError(f"--after {args.after}: not in 0..{2**63 - 1}")
    folder = data_folder(args)
    with _opened(folder) as shown:
        pages = _pages(shown.statement, args.campaign_id, args.after, limit)
        first = next(pages)
        if not len(first[1]) and not _is_known(folder, args.campaign_id):
            raise ValueError(f"CAMPAIGN {args.campaign_id}: nothing is known of it in {folder}")
        pages = chain([first], pages)
        if args.csv:
            _print_csv(pages)
        elif args.json:
            _print_json(pages)
        else:
            _print_table(pages, shown.place)
    return 0


def _is_known(folder: Path, campaign_id: int) -> bool:
    """Whether a server of this folder has the campaign, charged or not."""
    if not (folder / STORE_FILE).is_file():
        return False
    with closing(CampaignStore(folder / STORE_FILE)) as store:
        try:
            store.get(campaign_id)
        except NoSuchCampaign:
            return False
    return True


class _Shown(NamedTuple):
    """A statement to show, and words for the place in the ledgers where a page of it is true."""

    statement: Statement
    place: Callable[[StatementPage], str]


@contextmanager
def _opened(folder: Path) -> Iterator[_Shown]:
    """The charges that a server of this folder lists: where it joined others, with theirs that it copied."""
    ledger = LedgerFile(folder / LEDGER_FILE)
    listed = None
    try:
        if not is_shared(folder):
            yield _alone(ledger)
            return
        listed = ListedFiles(folder, owner_of(folder).owner_id, ledger)
        rows = ", ".join(row_text(qualified(*place)) for place in listed.true_at.items()) or "none"
        yield _Shown(listed.statement, lambda _: f"as far as this server knew: up to rows {rows} of the ledgers")
    finally:
        if listed is not None:
            listed.close()
        ledger.close()


def _alone(ledger: LedgerFile) -> _Shown:
    def statement(campaign_id: int, after: int, limit: int, at_sequence: int) -> Page:
        page = statement_page(ledger, campaign_id, after, limit, at_sequence)
        return page, explained(ledger, page.charges)

    return _Shown(statement, lambda page: f"at row {page.ledger_sequence} of the ledger")


def _pages(statement: Statement, campaign_id: int, after: int, limit: int) -> Iterator[Page]:
    """Pages of up to `limit` charges in all, at one place of the list; one page at least."""
    at_place = 0
    while True:
        page, lines = statement(campaign_id, after, min(limit, MAX_PAGE), at_place)
        yield page, lines
        limit -= len(lines)
        after, at_place = page.next_after, page.ledger_sequence
        if not after or limit <= 0:
            return


def _fields(lines: np.ndarray) -> Iterator[dict[str, Any]]:
    for line in lines:
        yield dict(zip(EXPLAINED.names or (), line.item(), strict=True))


def _print_csv(pages: Iterator[Page]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(HEADER)
    for _, lines in pages:
        writer.writerows(line_of(charge) for charge in _fields(lines))


def _print_json(pages: Iterator[Page]) -> None:
    for _, lines in pages:
        for charge in _fields(lines):
            print(json.dumps(charge | {"sequence": row_text(charge["sequence"])}))


def _print_table(pages: Iterator[Page], place: Callable[[StatementPage], str]) -> None:
    print("  ".join(f"{name:>{width}}" for name, width in _TABLE))
    page = None
    for part in pages:
        page, lines = part
        for charge in _fields(lines):
            by_name = dict(zip(HEADER, line_of(charge), strict=True))
            cells = (by_name[column] for column in _COLUMNS)
            print("  ".join(f"{cell:>{width}}" for cell, (_, width) in zip(cells, _TABLE, strict=True)))
    assert page is not None
    if page.next_after:
        print(f"more: --after {page.next_after}")
    charged, over = text_from_micros(page.charged_micros), text_from_micros(page.over_delivered_micros)
    print(f"charged {charged} in all, over-delivered {over}, {place(page)}")


_COLUMNS = (
    "ledger row", "seen at (UTC)", "viewer", "video", "bid", "price", "auction", "floor", "predicted probability",
    "worth of one event", "worth of this impression", "bid / worth", "verdict",
)  # fmt: skip


class _Progress:
    """A line on stderr every QUIET_S, so that a short check says nothing."""

    def __init__(self) -> None:
        self._told_at_s = time.monotonic()

    def __call__(self, label: str, done: int, total: int) -> None:
        now_s = time.monotonic()
        if now_s - self._told_at_s >= QUIET_S:
            self._told_at_s = now_s
            print(f"{label}: {done:,} of {total:,} rows", file=sys.stderr, flush=True)


def _verify(folder: Path) -> int:
    for name in (LEDGER_FILE, KEYS_FILE):
        if not (folder / name).exists():
            raise FileNotFoundError(f"--data {folder}: no {name} there; is it the data directory of a server?")
    started_s = time.monotonic()
    found = verify(folder, _Progress())
    if found.difference is not None:
        sequence, name, recorded, derived = found.difference
        print(f"first difference: row {sequence}, {name}\n  recorded: {recorded}\n  derived:  {derived}")
        return 1
    _print_summary(found, time.monotonic() - started_s)
    return 0


def _print_summary(found: Verified, seconds: float) -> None:
    lines = {
        "rows, chained up to the anchor": f"{found.rows:,}",
        "rows behind the last verdict": f"{found.unjudged:,}",
        "impressions": f"{found.billables:,}",
        "charges": f"{found.charges:,}",
        "campaigns charged": f"{found.campaigns:,}",
        "charged, micros": f"{found.charged_micros:,}",
        "over-delivered, micros": f"{found.over_delivered_micros:,}",
        "bids derived again": f"{found.bids.derived:,}",
        "bids whose landscape is not retained": f"{found.bids.not_retained:,}",
        "bids recorded by an older version": f"{found.bids.older:,}",
    }
    for name, value in lines.items():
        print(f"{name:<38}{value:>22}")
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
    print(f"no difference; checked in {seconds:.1f} s, {when} UTC")
