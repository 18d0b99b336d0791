"""`verify` derives what was served again, to the bit, and finds whatever was changed, however well it was hidden."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from auction.bid.token import TokenKeys, sign_batch
from auction.landscape import archive
from pacing.clocks import MS_PER_HOUR
from pacing.facts import FLAG_FLAT_WORTH, AuctionType, OutcomeKind, RowStatus, Verdict
from pacing.ledger.rows import MoneyKind, as_money
from tests.auction.audit.ledgers import MULTIPLIER_MICROS, Forge, check, copy_of, forge, rows_of, serve_some
from tests.auction.bid.engines import NOON_MS, Engine, tokens_of


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of a server that bid by a multiplier, stopped."""
    folder = tmp_path_factory.mktemp("served")
    engine = Engine(folder, policy="unpaced", unpaced_multiplier_micros=MULTIPLIER_MICROS)
    serve_some(engine)
    engine.close()
    return folder


@pytest.fixture
def copied(served: Path, tmp_path: Path) -> Path:
    return copy_of(served, tmp_path / "copy")


def billables(rows: np.ndarray, at: AuctionType) -> np.ndarray:
    """Places of the billable rows of an auction type."""
    return np.flatnonzero((rows["kind"] == OutcomeKind.BILLABLE) & (rows["decision"]["at"] == at))


def test_what_was_served_follows_from_its_record(served: Path) -> None:
    found = check(served)
    assert found.difference is None
    rows, _ = rows_of(served)
    first, second = (billables(rows, at) for at in AuctionType)
    assert len(first) > 40 and len(second) > 40
    assert found.bids.derived == found.billables == found.charges == len(first) + len(second)
    assert found.charged_micros == int(rows["price_micros"][np.concatenate([first, second])].sum())
    assert (found.rows, found.bids.not_retained, found.bids.older, found.over_delivered_micros) == (len(rows), 0, 0, 0)
    assert len(np.unique(rows["decision"]["bid_micros"][first])) > 3
    shaded = rows["decision"][first]
    assert (shaded["bid_micros"] < np.floor(shaded["alpha_micros"] * shaded["probability"].astype(float))).any()


def test_a_restart_and_the_flat_worth_of_a_fixed_bid(tmp_path: Path) -> None:
    for start in range(2):
        engine = Engine(tmp_path, start_at_ms=NOON_MS + start * 60_000)
        serve_some(engine, rounds=2)
        engine.close()
    found = check(tmp_path)
    assert found.difference is None and found.bids.not_retained == 0
    rows, _ = rows_of(tmp_path)
    billed = rows[rows["kind"] == OutcomeKind.BILLABLE]
    assert found.bids.derived == len(billed) > 50
    assert (billed["decision"]["flags"] & FLAG_FLAT_WORTH).all()


def test_pacings_multiplier_and_the_engines_own_probabilities(tmp_path: Path) -> None:
    engine = Engine(tmp_path, policy="engine")
    serve_some(engine, rounds=6, told=False)
    engine.close()
    found = check(tmp_path)
    assert found.difference is None
    rows, _ = rows_of(tmp_path)
    billed = rows[rows["kind"] == OutcomeKind.BILLABLE]["decision"]
    assert found.bids.derived == len(billed) > 50
    assert set(billed["at"].tolist()) == set(AuctionType) and not billed["flags"].any()
    assert len(np.unique(billed["alpha_micros"])) > 2 and len(np.unique(billed["probability"])) > 2


def test_a_bid_long_after_its_snapshot_is_counted_as_not_retained(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    engine.create()
    engine.jump(7 * MS_PER_HOUR)  # the machine slept; the money wakes before the next snapshot
    engine.services.bank.tick()
    tokens = tokens_of(engine.bid(range(1, 6), at=AuctionType.FIRST_PRICE, bidfloor_micros=600))
    assert engine.status(OutcomeKind.BILLABLE, tokens[0], 600) == RowStatus.ACCEPTED
    engine.close()
    found = check(tmp_path)
    assert found.difference is None
    assert (found.charges, found.bids.derived, found.bids.not_retained) == (1, 0, 1)


def test_a_running_server_is_checked_and_not_disturbed(tmp_path: Path) -> None:
    engine = Engine(tmp_path, policy="unpaced", unpaced_multiplier_micros=MULTIPLIER_MICROS)
    campaign_id = serve_some(engine, rounds=2)
    found = check(tmp_path)
    assert found.difference is None and found.charges > 20
    answer = engine.bid(
        [5_000], predictions={"viewer_idx": [0], "campaign_ids": [campaign_id], "probabilities": [0.02]}
    )
    engine.report([OutcomeKind.BILLABLE], tokens_of(answer)[:1], prices_micros=answer.prices_micros[:1])
    waiting = check(tmp_path)
    assert waiting.difference is None and waiting.unjudged > 0 and waiting.charges == found.charges
    engine.go_round()
    assert check(tmp_path).charges == found.charges + 1
    engine.close()
    assert check(tmp_path).charges == found.charges + 1


def test_what_is_left_of_a_crash_is_checked(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "live", policy="unpaced", unpaced_multiplier_micros=MULTIPLIER_MICROS)
    serve_some(engine, rounds=2)
    shutil.copytree(tmp_path / "live", tmp_path / "crashed", ignore=shutil.ignore_patterns("*-shm"))
    engine.close()
    assert check(tmp_path / "crashed").difference is None
    again = Engine(tmp_path / "crashed", start_at_ms=NOON_MS + 60_000)  # and a start after the check finds all of it
    again.close()
    assert check(tmp_path / "crashed").difference is None


def signed_anew(folder: Path, rows: np.ndarray, k: int) -> None:
    """Sign a changed decision with the deployment's own key."""
    decisions = rows["decision"][k : k + 1].copy()
    sign_batch(decisions, TokenKeys.load(folder / "keys.json"))
    rows["decision"][k : k + 1] = decisions


def differs(folder: Path, change: Forge) -> tuple[int, str, object, object]:
    forge(folder, change)
    found = check(folder).difference
    assert found is not None
    return tuple(found)


def test_a_forged_ledger_that_changes_nothing_passes(copied: Path) -> None:
    forge(copied, lambda rows, judgements: (rows, judgements))
    assert check(copied).difference is None


@pytest.mark.parametrize("name", ["alpha_micros", "probability", "bid_micros", "viewer_id", "campaign_id", "features"])
def test_an_altered_record_is_not_what_was_signed(copied: Path, name: str) -> None:
    place: list[int] = []

    def change(rows: np.ndarray, judgements: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        place.append(int(billables(rows, AuctionType.SECOND_PRICE)[3]))
        rows["decision"][name][place[0]] += 1
        return rows, judgements

    sequence, field, *_ = differs(copied, change)
    assert (sequence, field) == (place[0] + 1, "mac")


@pytest.mark.parametrize("at", list(AuctionType))
@pytest.mark.parametrize("step", [1, -1])
def test_a_bid_that_does_not_follow_from_its_record_even_when_signed(copied: Path, at: AuctionType, step: int) -> None:
    expected: list[tuple[int, int]] = []

    def change(rows: np.ndarray, judgements: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        k = int(billables(rows, at)[5])
        bid = int(rows["decision"]["bid_micros"][k])
        expected.append((k + 1, bid))
        rows["decision"]["bid_micros"][k] = bid + step
        rows["price_micros"][k] = rows["decision"]["floor_micros"][k]
        signed_anew(copied, rows, k)
        return rows, judgements

    sequence, field, recorded, derived = differs(copied, change)
    (place, bid), *_ = expected
    assert (sequence, field, recorded, derived) == (place, "bid_micros", bid + step, bid)


@pytest.mark.parametrize(("step", "text"), [(1, "at most the bid"), (-1, "at least the floor")])
def test_a_wrong_price(copied: Path, step: int, text: str) -> None:
    place: list[int] = []

    def change(rows: np.ndarray, judgements: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        k = int(billables(rows, AuctionType.FIRST_PRICE)[2])
        place.append(k + 1)
        bound = "bid_micros" if step > 0 else "floor_micros"
        rows["price_micros"][k] = rows["decision"][bound][k] + step
        return rows, judgements

    sequence, field, _, derived = differs(copied, change)
    assert (sequence, field) == (place[0], "price_micros") and str(derived).startswith(text)


def test_a_charge_that_comes_twice(copied: Path) -> None:
    place: list[int] = []

    def change(rows: np.ndarray, judgements: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        k = int(billables(rows, AuctionType.SECOND_PRICE)[1])
        place.append(len(rows) + 1)
        of = judgements[judgements["sequence"] == rows["sequence"][k]]
        return np.concatenate([rows, rows[k : k + 1]]), np.concatenate([judgements, of])

    sequence, field, *_ = differs(copied, change)
    assert (sequence, field) == (place[0], "hold_seq")


def test_a_charge_that_is_missing_from_the_statement(copied: Path) -> None:
    db = sqlite3.connect(copied / "ledger.sqlite")
    (sequence,) = db.execute("SELECT sequence FROM charges ORDER BY sequence LIMIT 1 OFFSET 7").fetchone()
    db.execute("DELETE FROM charges WHERE sequence = ?", (sequence,))
    db.commit()
    db.close()
    found = check(copied).difference
    assert found is not None and found.sequence == sequence and found.field.startswith("statement of campaign")


def test_a_row_that_is_missing_from_the_file(copied: Path) -> None:
    db = sqlite3.connect(copied / "ledger.sqlite")
    (first,) = db.execute("SELECT first_sequence FROM batches LIMIT 1 OFFSET 3").fetchone()
    db.execute("DELETE FROM batches WHERE first_sequence = ?", (first,))
    db.commit()
    db.close()
    found = check(copied).difference
    assert found is not None and found.sequence == first and found.field == "batches"


def test_a_row_that_is_missing_though_every_hash_fits(copied: Path) -> None:
    def change(rows: np.ndarray, judgements: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        k = int(billables(rows, AuctionType.SECOND_PRICE)[1])
        return np.delete(rows, k), judgements[judgements["sequence"] != rows["sequence"][k]]

    forge(copied, change, renumber=False)
    found = check(copied).difference
    assert found is not None and found.field == "batches" and "rows" in str(found.derived)


def test_a_verdict_that_its_row_cannot_have(copied: Path) -> None:
    def change(rows: np.ndarray, judgements: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        judgements["verdict"][np.flatnonzero(judgements["verdict"] == Verdict.CHARGED)[4]] = Verdict.DUPLICATE
        return rows, judgements

    _, field, recorded, derived = differs(copied, change)
    assert (field, recorded, derived) == ("verdict", Verdict.DUPLICATE, Verdict.CHARGED)


def test_a_day_beyond_its_cap(copied: Path) -> None:
    def change(rows: np.ndarray, judgements: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        money = as_money(rows)
        caps = rows["kind"] == MoneyKind.CAPS
        money["daily_cap_micros"][caps] = 50_000
        return rows, judgements

    _, field, recorded, derived = differs(copied, change)
    assert field.startswith("day 20260304 of campaign") and derived == "at most 50000"
    assert isinstance(recorded, int) and recorded > 50_000


def test_a_wrong_landscape(copied: Path) -> None:
    """The entry of one snapshot says another landscape, which is whole and well addressed."""
    folder = copied / archive.LANDSCAPES_FOLDER
    rows, _ = rows_of(copied)
    k = int(billables(rows, AuctionType.FIRST_PRICE)[0])
    leaf = int(rows["decision"]["landscape_idx"][k])
    (path,) = folder.iterdir()
    retained = archive.RetainedLandscapes(folder)
    (address,) = retained.addresses_of(rows["decision"]["snapshot_version"][k : k + 1])
    assert address is not None
    landscape = retained.load(address)
    better = landscape._replace(win_probs=np.sqrt(landscape.win_probs))
    raw = archive.raw_bytes(better, archive.leaves_of_blocks(range(8)))
    assert landscape.win_probs[leaf].any()
    path.unlink()
    journal = archive.Journal(path)
    version = int(rows["decision"]["snapshot_version"].min(initial=2**63, where=rows["has_token"] == 1))
    journal.append(1, archive._HEAD.pack(version, archive.address_of(raw)) + archive.zlib.compress(raw))
    journal.close()
    found = check(copied).difference
    assert found is not None and found.field == "bid_micros"
    path.write_bytes(path.read_bytes()[:-1])
    lost = check(copied)
    assert lost.difference is None
    assert lost.bids.not_retained == len(billables(rows, AuctionType.FIRST_PRICE))
    assert lost.bids.derived == len(billables(rows, AuctionType.SECOND_PRICE))
