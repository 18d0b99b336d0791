"""Damage to any file of a ledger is noticed, or costs nothing that was acknowledged."""

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from pacing.facts import JUDGEMENT
from pacing.ledger.anchor import Anchor, Mark
from pacing.ledger.errors import LedgerDamaged, LedgerError
from pacing.ledger.log import Ledger
from tests.pacing.rows import billables

NAMES = ("ledger.sqlite", "ledger.sqlite-wal", "ledger.anchor")


def copy_of(folder: Path, target: Path) -> Path:
    """The files as a crash leaves them; the shared-memory index is rebuilt from the log."""
    target.mkdir()
    for name in NAMES:
        shutil.copy(folder / name, target / name)
    return target / NAMES[0]


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes, bytes]:
    """A folder with a ledger of 12 rows, part in the main file and part in the write-ahead log; rows; verdicts."""
    folder = tmp_path_factory.mktemp("crashed")
    live = tmp_path_factory.mktemp("live")
    ledger = Ledger(live / NAMES[0])
    for first in range(0, 12, 3):
        if first == 6:
            ledger.checkpoint()
        ledger.append(billables(range(first, first + 3)))
        rows = ledger.read(first, 3)
        judgements = np.zeros(3, JUDGEMENT)
        judgements["sequence"], judgements["verdict"] = rows["sequence"], 1
        ledger.append_judgements(ledger.last_sequence, rows, judgements)
    for name in NAMES:
        shutil.copy(live / name, folder / name)
    state = whole_of(ledger)
    ledger.close()
    assert (folder / NAMES[1]).stat().st_size > 0
    return folder, *state


def whole_of(ledger: Ledger) -> tuple[bytes, bytes]:
    rows, judgements = ledger.read_judged(0, 1_000)
    assert ledger.read(0, 1_000).tobytes() == rows.tobytes()
    return rows.tobytes(), judgements.tobytes()


def is_noticed_or_harmless(path: Path, expected: tuple[bytes, bytes]) -> bool:
    """Opens the ledger: True where the damage was noticed; fails where it changed what is read."""
    try:
        ledger = Ledger(path)
    except LedgerDamaged:
        return True
    try:
        assert whole_of(ledger) == expected
    except LedgerDamaged:
        return True
    finally:
        ledger.close()
    return False


def places(size: int, count: int, seed: str) -> list[int]:
    draw = random.Random(seed)
    return sorted({0, size - 1, *(draw.randrange(size) for _ in range(count))})


@pytest.mark.parametrize("name", NAMES)
def test_flipped_bits(crashed: tuple[Path, bytes, bytes], tmp_path: Path, name: str) -> None:
    folder, *expected = crashed
    size = (folder / name).stat().st_size
    noticed = 0
    for i, place in enumerate(places(size, 120, name)):
        path = copy_of(folder, tmp_path / f"{i}")
        raw = bytearray((path.parent / name).read_bytes())
        raw[place] ^= 1 << (i % 8)
        (path.parent / name).write_bytes(raw)
        noticed += is_noticed_or_harmless(path, (expected[0], expected[1]))
        shutil.rmtree(path.parent)
    assert noticed or name == "ledger.anchor"


@pytest.mark.parametrize("name", NAMES)
def test_cut_short(crashed: tuple[Path, bytes, bytes], tmp_path: Path, name: str) -> None:
    folder, *expected = crashed
    size = (folder / name).stat().st_size
    for i, place in enumerate(places(size, 50, name)):
        path = copy_of(folder, tmp_path / f"{i}")
        with (path.parent / name).open("r+b") as file:
            file.truncate(place)
        is_noticed_or_harmless(path, (expected[0], expected[1]))
        shutil.rmtree(path.parent)
    path = copy_of(folder, tmp_path / "gone")
    (path.parent / name).unlink()
    assert is_noticed_or_harmless(path, (expected[0], expected[1]))


def test_every_byte_of_both_marks(crashed: tuple[Path, bytes, bytes], tmp_path: Path) -> None:
    folder, *expected = crashed
    raw = (folder / "ledger.anchor").read_bytes()
    for slot in (0, 4096):
        for place in range(slot, slot + 128):
            path = tmp_path / f"{place}.anchor"
            path.write_bytes(raw[:place] + bytes([raw[place] ^ 16]) + raw[place + 1 :])
            anchor = Anchor(path)
            is_inside = place - slot < len(Mark().packed())
            assert anchor.was_torn == is_inside
            anchor.close()
            path.unlink()
    path = copy_of(folder, tmp_path / "one")
    (path.parent / "ledger.anchor").write_bytes(raw[:20] + b"\xff" + raw[21:])
    ledger = Ledger(path)
    assert ledger.notes and whole_of(ledger) == (expected[0], expected[1])
    ledger.close()
    repaired = Ledger(path)
    assert repaired.notes == []
    repaired.close()


def test_an_older_copy_is_refused(tmp_path: Path) -> None:
    path = tmp_path / NAMES[0]
    ledger = Ledger(path)
    ledger.append(billables(range(5)))
    ledger.close()
    shutil.copy(path, tmp_path / "older")
    ledger = Ledger(path)
    ledger.append(billables([5]))
    ledger.close()
    shutil.copy(tmp_path / "older", path)
    with pytest.raises(LedgerDamaged, match="end at 5, 6 were acknowledged"):
        Ledger(path)


def test_another_history_is_refused(tmp_path: Path) -> None:
    for name, amount in (("a", 1), ("b", 2)):
        (tmp_path / name).mkdir()
        ledger = Ledger(tmp_path / name / NAMES[0])
        ledger.append(billables(range(5), price_micros=amount))
        ledger.close()
    shutil.copy(tmp_path / "b" / NAMES[0], tmp_path / "a" / NAMES[0])
    with pytest.raises(LedgerDamaged, match="differ from what was acknowledged"):
        Ledger(tmp_path / "a" / NAMES[0])


def test_an_old_anchor_is_refused(tmp_path: Path) -> None:
    path = tmp_path / NAMES[0]
    ledger = Ledger(path)
    ledger.append(billables([1]))
    old = (tmp_path / "ledger.anchor").read_bytes()
    ledger.append(billables([2]))
    ledger.append(billables([3]))
    ledger.close()
    (tmp_path / "ledger.anchor").write_bytes(old)
    with pytest.raises(LedgerDamaged, match="2 batches that its anchor does not know"):
        Ledger(path)


def test_a_missing_database_is_noticed(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / NAMES[0])
    ledger.append(billables([1]))
    ledger.close()
    (tmp_path / NAMES[0]).unlink()
    with pytest.raises(LedgerDamaged, match="missing"):
        Ledger(tmp_path / NAMES[0])


def test_no_database_at_all(tmp_path: Path) -> None:
    (tmp_path / NAMES[0]).write_bytes(b"not a database" * 100)
    with pytest.raises(LedgerError, match="not a database"):
        Ledger(tmp_path / NAMES[0])


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("DELETE FROM claims WHERE second = 3", "what was told before differs"),
        ("UPDATE claims SET amount_micros = amount_micros + 1 WHERE second = 3", "what was told before differs"),
        ("UPDATE claims SET amount_micros = 'x' WHERE second = 3", "what nobody wrote"),
        ("DELETE FROM charges WHERE sequence = 4", "the statements differ"),
        ("UPDATE charges SET charged_micros = charged_micros + 1 WHERE sequence = 4", "the statements differ"),
        ("UPDATE charges SET verdict = 4 WHERE sequence = 4", "the statements differ"),
        ("UPDATE charges SET amount_micros = -1.5 WHERE sequence = 4", "the statements differ"),
        ("UPDATE charges SET verdict = -1 WHERE sequence = 4", "what nobody wrote"),
        ("INSERT INTO charges SELECT campaign_id, 99, 1, 5, 5, 0 FROM charges LIMIT 1", "the statements differ"),
    ],
)
def test_what_stands_beside_the_rows_is_compared_with_them(
    crashed: tuple[Path, bytes, bytes], tmp_path: Path, statement: str, text: str
) -> None:
    path = copy_of(crashed[0], tmp_path / "copy")
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        assert db.execute(statement).rowcount == 1
    with pytest.raises(LedgerDamaged, match=text):
        Ledger(path)
