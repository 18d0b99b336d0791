"""Targets that are files: keys, journals, the ledger and its anchor, saved state, and what a flag may name."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from auction.array_files import load_arrays
from auction.audience.journal import Journal, sound_records
from auction.bid.token import TokenKeys
from auction.campaigns.model import BidMode, Campaign, Creative
from auction.campaigns.report import ReportBook
from auction.campaigns.store import CampaignStore, NoSuchCampaign, StoreUnavailable
from auction.config import BadSetting
from auction.landscape.archive import LandscapeArchive, RetainedLandscapes, landscape_of, raw_bytes
from auction.landscape.landscape import LandscapeLearner, LandscapeSettings
from auction.learning import Learner
from auction.predictor.predictor import Predictor
from auction.progress import DayProgress, Progress
from benchmarks.fuzz.mutation import Mutator
from benchmarks.fuzz.seeds import CREATOR, START_AT_MS
from benchmarks.fuzz.targets import Target, seeded
from benchmarks.replay_pack import TICKS, load_pack
from fanbridge.delivery import Delivery, Waiting
from fanbridge.events import FAN_CHANGE, FAN_OUTCOME
from fanbridge.service.event_file import EventFile, FileRejected
from pacing.budget.memory import MemoryStore
from pacing.budget.recovery import Counters, replay, snapshot_bytes
from pacing.budget.store import CapsRequest, LeaseRequest
from pacing.clocks import MS_PER_DAY, VirtualClock
from pacing.control.history import MarketHistory
from pacing.facts import JUDGEMENT, OUTCOME, Goal, OutcomeKind, RowStatus, Verdict
from pacing.ledger.anchor import Mark, read_mark
from pacing.ledger.errors import LedgerDamaged
from pacing.ledger.log import Ledger
from pacing.ledger.owners import OWN, Positions
from targeting.expression_json import from_json

_FILE_SHARE = 40
"""Of this many inputs one is a file's: opening one takes that much longer than reading a message."""
_SQLITE_SHARE = 500
_BINS = 8


def file_targets(folder: Path, mutator: Mutator) -> Iterator[Target]:
    """All of them; their files are in `folder`."""
    yield from _key_targets(folder, mutator)
    yield from _journal_targets(folder, mutator)
    yield from _ledger_targets(folder, mutator)
    yield from _state_targets(folder, mutator)
    yield from _flag_targets(folder, mutator)
    yield from _event_file_targets(folder, mutator)


def _opened(folder: Path, name: str, open_file: Callable[[Path], Any]) -> Callable[[bytes], object]:
    """Write the input to a file of this name in a folder of its own, and open that."""

    def take(raw: bytes) -> object:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            path = Path(place) / name
            path.write_bytes(raw)
            return open_file(path)

    return take


def _key_targets(folder: Path, mutator: Mutator) -> Iterator[Target]:
    keys = TokenKeys.generate().rotated(START_AT_MS)
    keys.save(folder / "seed-keys.json")
    raw = (folder / "seed-keys.json").read_bytes()
    draw = _either(mutator, lambda: mutator.changed(raw), lambda: mutator.json_like([json.loads(raw)]))
    yield Target("key file", draw, _opened(folder, "keys.json", TokenKeys.load), share=_FILE_SHARE)


def _event_file_targets(folder: Path, mutator: Mutator) -> Iterator[Target]:
    """Events by file, fed in two pieces, into a store that takes all."""
    row = (1, 5, 7, "follow", START_AT_MS)
    header = ("event_id", "viewer_id", "creator_id", "kind", "occurred_at_ms")
    comma = "\n".join(",".join(map(str, cells)) for cells in (header, row, row)).encode()
    objects = b"".join(json.dumps(dict(zip(header, row, strict=True))).encode() + b"\n" for _ in range(2))

    def take(raw: bytes, is_csv: bool) -> None:
        file = EventFile(folder, is_csv, START_AT_MS)
        for piece in (raw[: len(raw) // 2], raw[len(raw) // 2 :]):
            file.feed(piece)
        file.take(lambda rows: [RowStatus.ACCEPTED] * len(rows))

    for name, seed, is_csv in (("event file, CSV", comma, True), ("event file, JSON lines", objects, False)):
        kept = partial(take, is_csv=is_csv)
        yield seeded(mutator, name, [seed], kept, (FileRejected,), share=_FILE_SHARE)


def _either(mutator: Mutator, *draws: Callable[[], bytes]) -> Callable[[], bytes]:
    return lambda: mutator.choose(draws)()


def _journal_targets(folder: Path, mutator: Mutator) -> Iterator[Target]:
    journal = Journal(folder / "seed.journal")
    for kind in (1, 2, 3, 4):
        journal.append(kind, b"x" * 40)
    journal.close()

    def read(path: Path) -> None:
        list(sound_records(path))
        journal = Journal(path)
        try:
            list(journal.records())
            journal.append(1, b"more")
        finally:
            journal.close()

    seeds = [(folder / "seed.journal").read_bytes()]
    yield seeded(mutator, "audience journal", seeds, _opened(folder, "audience.journal", read), share=_FILE_SHARE)

    archive_folder = folder / "landscapes"
    clock = VirtualClock(START_AT_MS)
    archive = LandscapeArchive(archive_folder, clock, "UTC")
    landscape = LandscapeLearner(LandscapeSettings(bins=_BINS)).refresh()
    version = archive.next_version(landscape)
    archive.close()
    (written,) = (path for path in archive_folder.iterdir() if path.is_file())

    def derive(path: Path) -> None:
        retained = RetainedLandscapes(path.parent)
        for address in retained.addresses_of(np.array([version, 0, 2**64 - 1], np.uint64)):
            if address is not None:
                retained.load(address)

    yield seeded(
        mutator, "landscape archive", [written.read_bytes()], _opened(folder, written.name, derive), share=_FILE_SHARE
    )
    yield seeded(mutator, "landscape", [raw_bytes(landscape, np.arange(4))], landscape_of, share=4)


def _ledger_targets(folder: Path, mutator: Mutator) -> Iterator[Target]:
    place = folder / "seed-ledger"
    place.mkdir()
    ledger = Ledger(place / "ledger.sqlite")
    rows = np.zeros(3, OUTCOME)
    rows["kind"], rows["viewer_id"], rows["creator_id"] = OutcomeKind.FOLLOW, [1, 2, 3], CREATOR
    ledger.append(rows)
    ledger.save_snapshot(3, 0, b"x" * 64)
    ledger.close()
    files = {path.name: path.read_bytes() for path in place.iterdir()}
    anchor = next(name for name in files if "anchor" in name)

    def draw() -> bytes:
        name = anchor if mutator.choose((True, False)) else "ledger.sqlite"
        content = bytearray(files[name])
        for _ in range(8):
            content[mutator.choose(range(len(content)))] ^= 1 << mutator.choose(range(8))
        return (b"a" if name == anchor else b"l") + bytes(content)

    def take(raw: bytes) -> None:
        with tempfile.TemporaryDirectory(dir=folder) as name:
            inside = Path(name)
            for part, content in files.items():
                (inside / part).write_bytes(content)
            (inside / (anchor if raw[:1] == b"a" else "ledger.sqlite")).write_bytes(raw[1:])
            ledger = Ledger(inside / "ledger.sqlite")
            try:
                ledger.read(0, 10)
                ledger.read_judged(0, 10)
                ledger.load_snapshot()
                list(ledger.read_money(0))
            finally:
                ledger.close()

    yield Target("ledger", draw, take, (LedgerDamaged,), share=_SQLITE_SHARE)
    mark = Mark(3, 3, b"h" * 32, 2, b"j" * 32).packed().ljust(4096, b"\0")
    marks = [mark + Mark(2).packed().ljust(4096, b"\0"), mark]
    yield Target(
        "ledger anchor",
        lambda: bytes(mutator.input_from([raw[:200] for raw in marks])).ljust(mutator.choose((0, 4096, 8192)), b"\0"),
        _opened(folder, "ledger.anchor", read_mark), (LedgerDamaged,), share=_FILE_SHARE,
    )  # fmt: skip
    yield Target("snapshot of budgets", lambda: mutator.arrays_bytes(_budgets()), _replayed, (LedgerDamaged,), share=20)

    store = CampaignStore(folder / "seed-campaigns.sqlite")
    store.insert(replace(_campaign(1), targeting=from_json({"any": [{"segment": "vip"}, {"interests": [3]}]})))
    store.add_token(b"h" * 32, "creator", CREATOR, START_AT_MS)
    store.close()
    raw = (folder / "seed-campaigns.sqlite").read_bytes()

    def open_store(path: Path) -> None:
        store = CampaignStore(path)
        try:
            store.all()
            store.tokens()
        finally:
            store.close()

    yield Target(
        "campaign store", lambda: mutator.flipped(raw), _opened(folder, "campaigns.sqlite", open_store),
        (StoreUnavailable,), share=_SQLITE_SHARE,
    )  # fmt: skip
    delivery = Delivery(folder / "seed-delivery.sqlite")
    outcome, fan = np.zeros(1, FAN_OUTCOME), np.ones(1, FAN_CHANGE)
    delivery.save_outcomes(5, [Waiting(outcome, 1, START_AT_MS, "away", START_AT_MS)], [])
    delivery.swap_fans(fan, "cursor")
    delivery.close()
    delivered = (folder / "seed-delivery.sqlite").read_bytes()

    def open_delivery(path: Path) -> None:
        delivery = Delivery(path)
        try:
            delivery.cursor("events")
            delivery.fans()
            delivery.waiting_counts()
            delivery.parked_due(START_AT_MS + 1, 10)
        finally:
            delivery.close()

    yield Target(
        "delivery state", lambda: mutator.flipped(delivered), _opened(folder, "delivery.sqlite", open_delivery),
        (ValueError,), share=_SQLITE_SHARE,
    )  # fmt: skip


def _budgets() -> dict[str, np.ndarray]:
    """What a snapshot of two budgets holds."""
    store = MemoryStore()
    for campaign_id in (1, 2):
        store.set_caps(CapsRequest(campaign_id, CREATOR, "UTC", 10**7, 10**8, START_AT_MS))
    store.acquire([LeaseRequest(9, 1, START_AT_MS // MS_PER_DAY, START_AT_MS, START_AT_MS + 60_000, 100)])
    with np.load(io.BytesIO(snapshot_bytes(store, Counters()))) as arrays:
        return dict(arrays)


class _OnlySnapshot:
    """A ledger that holds nothing but a snapshot."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def load_snapshot(self) -> tuple[int, int, bytes]:
        return 0, 0, self._body

    def read_money(self, after: int) -> tuple[()]:
        return ()

    def read_judged(self, after: int, limit: int) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros(0, OUTCOME), np.zeros(0, JUDGEMENT)


def _replayed(raw: bytes) -> None:
    replay(_OnlySnapshot(raw), 1)  # type: ignore[arg-type]


def _arrays_of(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as arrays:
        return dict(arrays)


def _nobody(campaign_id: int) -> Campaign:
    raise NoSuchCampaign(campaign_id)


def _state_targets(folder: Path, mutator: Mutator) -> Iterator[Target]:
    """What followers save and take up again: `load` refuses, or what it took can be gone on with."""
    learner = Learner(Predictor(), capacity=16)
    features = np.arange(4 * 16, dtype=np.uint32).reshape(4, 16)
    learner.predictor.train_log(1, features, np.ones(4))
    learner.save(folder / "seed-learner.npz", Positions({OWN: 5}))
    learned = _arrays_of(folder / "seed-learner.npz")

    def load_learner(path: Path) -> None:
        learner.load(path)
        learner.tick(START_AT_MS + MS_PER_DAY)
        learner.predictor.predict(1, features)
        learner.arrived_share(Goal.FANS, np.arange(0, MS_PER_DAY, 10**7))

    yield Target(
        "state of the learner", lambda: mutator.arrays_bytes(learned), _opened(folder, "learner.npz", load_learner),
        share=_SQLITE_SHARE,
    )  # fmt: skip

    book = ReportBook(_nobody)
    with np.load(io.BytesIO(_book_bytes())) as arrays:
        booked = dict(arrays)

    def load_book(raw: bytes) -> None:
        book.restore(raw)
        book.snapshot()

    yield Target("state of reports", lambda: mutator.arrays_bytes(booked), load_book, share=10)

    progress = Progress(lambda campaign_id, at_ms: (0, 0), lambda campaign_id: 1)
    day = {
        "day_key": 20515, "day_start_at_ms": START_AT_MS, "caller_events": 0.5, "observed_events": 1,
        "own_events": [0.5] * len(DayProgress(0, 0).own_events),
    }  # fmt: skip

    def load_progress(raw: bytes) -> None:
        progress.restore(json.loads(raw)["days"])
        for campaign_id in progress.state():
            progress.estimate(int(campaign_id), 20515, START_AT_MS + 1, lambda goal, ages_ms: np.ones(len(ages_ms)))

    yield Target(
        "state of progress", lambda: mutator.json_like([{"position": 3, "days": {"1": day}}]), load_progress,
        (ValueError, KeyError, TypeError, OverflowError, RecursionError), share=10,
    )  # fmt: skip


def _campaign(campaign_id: int) -> Campaign:
    creatives = (Creative(7001, "Dance", 3),)
    return Campaign(CREATOR, "x", Goal.FANS, BidMode.AUTOMATIC, 10**7, 10**8, "UTC", creatives)


def _book_bytes() -> bytes:
    book = ReportBook(_campaign)
    rows, judgements = np.zeros(2, OUTCOME), np.zeros(2, JUDGEMENT)
    rows["kind"], rows["sequence"], rows["occurred_at_ms"] = OutcomeKind.BILLABLE, [1, 2], START_AT_MS
    rows["decision"]["campaign_id"] = judgements["campaign_id"] = [1, 2]
    judgements["sequence"], judgements["verdict"] = [1, 2], Verdict.CHARGED
    book.follow(rows, judgements)
    return book.snapshot()


def _flag_targets(folder: Path, mutator: Mutator) -> Iterator[Target]:
    """Files that a flag names."""
    history = MarketHistory(
        day=np.zeros(4, np.int64), bucket=np.arange(4), group=np.ones(4, np.int64), series=np.zeros(4, np.int64),
        probability=np.full(4, 0.01), prices_micros=np.full((4, 1), 1e4), exposure=np.ones(1),
        impressions=np.full((1, 48), 1e3),
    )  # fmt: skip
    history.save(folder / "seed-history.npz")
    predictor = Predictor()
    predictor.save(folder / "seed-model.npz")
    meta = {"a_1": {"category": 1, "B": 100.0, "C": 2.0, "lp_score": 1.0, "seed": 3}}
    sizes = np.ones(TICKS, np.int64)
    pack = {"meta": np.array(json.dumps(meta)), "a_1_x": np.ones((6, TICKS)), "a_1_n": sizes}
    loads: tuple[tuple[str, Mapping[str, np.ndarray], Callable[[Path], Any], int], ...] = (
        ("--history", _arrays_of(folder / "seed-history.npz"), MarketHistory.load, _FILE_SHARE),
        ("--model", _arrays_of(folder / "seed-model.npz"), predictor.load, _SQLITE_SHARE),
        ("PACK", pack, lambda path: list(load_pack(path)), _FILE_SHARE),
    )
    for flag, arrays, load, share in loads:
        yield Target(
            f"file of {flag}",
            lambda arrays=arrays: mutator.arrays_bytes(arrays, compress=mutator.choose((True, False))),  # type: ignore[misc]
            _opened(folder, "named.npz", lambda path, f=flag, load=load: load_arrays(f, path, "such a file", load)),  # type: ignore[misc]
            (BadSetting,),
            share,
        )
