"""Landscapes that bids were shaded with are found again by the snapshot's version, or said not to be retained."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from auction.audience.journal import Journal
from auction.landscape import archive as module
from auction.landscape.archive import (
    KEPT_DAYS,
    START_SHIFT,
    LandscapeArchive,
    RetainedLandscapes,
    address_of,
    landscape_of,
    raw_bytes,
)
from auction.landscape.kernels import shade_batch
from auction.landscape.landscape import Landscape, LandscapeLearner, LandscapeSettings
from auction.landscape.segments import LEAF_COUNT, leaves_of_blocks
from pacing.clocks import MS_PER_DAY, MS_PER_HOUR, VirtualClock
from pacing.facts import FEEDBACK, AuctionType

NOON_MS = 1_772_596_800_000


def learned(seed: int) -> Landscape:
    """A landscape that some first-price auctions taught."""
    random = np.random.default_rng(seed)
    learner = LandscapeLearner(LandscapeSettings(bins=32))
    feedback = np.zeros(400, FEEDBACK)
    feedback["at"], feedback["landscape_idx"] = AuctionType.FIRST_PRICE, random.integers(0, LEAF_COUNT, 400)
    feedback["bid_micros"] = random.integers(1_000, 1_000_000, 400)
    feedback["won"], feedback["price_micros"] = random.integers(0, 2, 400), -1
    feedback["min_bid_to_win_micros"] = -1
    learner.observe(feedback)
    return learner.refresh()


LANDSCAPES = [learned(seed) for seed in range(3)]
ZONE = "Asia/Shanghai"
NOON_LEAVES = leaves_of_blocks((4, 5))
RAW = [raw_bytes(landscape, NOON_LEAVES) for landscape in LANDSCAPES]
ADDRESSES = [address_of(raw) for raw in RAW]


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(NOON_MS)


def addresses(folder: Path, *versions: int) -> list[bytes | None]:
    return RetainedLandscapes(folder).addresses_of(np.array(versions, np.uint64))


def test_bids_on_the_kept_leaves_come_back_to_the_bit() -> None:
    leaves = np.flatnonzero(NOON_LEAVES).astype(np.int32)
    values, floors = np.geomspace(100, 3e6, len(leaves)), np.arange(len(leaves)) * 1_000
    for landscape, raw in zip(LANDSCAPES, RAW, strict=True):
        bids = np.zeros((2, len(leaves)), np.int64)
        for out, one in zip(bids, (landscape, landscape_of(raw)), strict=True):
            shade_batch(values, floors, leaves, one, out)
        assert bids[0].any() and (bids[0] == bids[1]).all()


def test_every_version_leads_to_its_landscape(tmp_path: Path, clock: VirtualClock) -> None:
    archive = LandscapeArchive(tmp_path, clock, ZONE)
    order = [0, 0, 1, 1, 0, 2]
    versions = [archive.next_version(LANDSCAPES[k]) for k in order]
    retained = RetainedLandscapes(tmp_path)  # while the archive is still open, and durable already
    found = retained.addresses_of(np.array(versions, np.uint64))
    assert found == [ADDRESSES[k] for k in order]
    for k, address in zip(order, found, strict=True):
        assert address is not None
        assert (retained.load(address).win_probs[NOON_LEAVES] == LANDSCAPES[k].win_probs[NOON_LEAVES]).all()
    archive.close()
    sizes = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert sizes < 1.1 * sum(len(zlib.compress(raw, 1)) for raw in RAW) + 1_000, "each is stored once"


def test_the_leaves_that_are_kept_move_with_the_hours(tmp_path: Path, clock: VirtualClock) -> None:
    archive = LandscapeArchive(tmp_path, clock, ZONE)
    versions = [archive.next_version(LANDSCAPES[0])]
    clock.advance_to(NOON_MS + 4 * MS_PER_HOUR)
    versions.append(archive.next_version(LANDSCAPES[0]))
    retained = RetainedLandscapes(tmp_path)
    for version, blocks in zip(versions, ((4, 5), (5, 6)), strict=True):
        (address,) = retained.addresses_of(np.array([version], np.uint64))
        assert address is not None
        kept = retained.load(address).win_probs.any(axis=1)
        assert (kept == leaves_of_blocks(blocks)).all()


def test_versions_of_two_starts_are_never_the_same(tmp_path: Path, clock: VirtualClock) -> None:
    seen: dict[int, bytes] = {}
    for start in range(3):  # within one second
        archive = LandscapeArchive(tmp_path, clock, ZONE)
        for k in (start, (start + 1) % 3):
            version = archive.next_version(LANDSCAPES[k])
            assert version not in seen
            seen[version] = ADDRESSES[k]
        # and no tidy end
    assert addresses(tmp_path, *seen) == list(seen.values())
    last = max(seen)
    assert addresses(tmp_path, last + (1 << START_SHIFT), min(seen) - 1, 0) == [None] * 3


def test_a_lost_folder_is_not_mistaken_for_the_next_one(tmp_path: Path, clock: VirtualClock) -> None:
    before = LandscapeArchive(tmp_path / "a", clock, ZONE).next_version(LANDSCAPES[0])
    clock.advance_to(NOON_MS + 5_000)
    LandscapeArchive(tmp_path / "b", clock, ZONE).next_version(LANDSCAPES[1])
    assert addresses(tmp_path / "b", before) == [None]


def test_what_the_disk_refuses_is_not_retained_and_bidding_goes_on(
    tmp_path: Path, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = LandscapeArchive(tmp_path, clock, ZONE)
    first = archive.next_version(LANDSCAPES[0])

    def refuse(self: Journal, kind: int, body: bytes) -> None:
        self._file.write(b"half of it")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(Journal, "append", refuse)
        lost = [archive.next_version(LANDSCAPES[k]) for k in (1, 1, 2)]
    again = archive.next_version(LANDSCAPES[1])
    assert len({first, *lost, again}) == 5
    expected = [ADDRESSES[0], None, None, None, ADDRESSES[1]]
    assert addresses(tmp_path, first, *lost, again) == expected


def test_a_record_cut_short_costs_only_itself(tmp_path: Path, clock: VirtualClock) -> None:
    archive = LandscapeArchive(tmp_path, clock, ZONE)
    versions = [archive.next_version(one) for one in LANDSCAPES]
    archive.close()
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-7])
    first, second, _ = ADDRESSES
    # A crash cuts an entry that no snapshot served with yet; after other damage, the bid does not follow from this one.
    assert addresses(tmp_path, *versions) == [first, second, second]


def test_an_altered_landscape_is_noticed(tmp_path: Path, clock: VirtualClock) -> None:
    archive = LandscapeArchive(tmp_path, clock, ZONE)
    version = archive.next_version(LANDSCAPES[0])
    archive.close()
    (path,) = tmp_path.iterdir()
    other = Journal(tmp_path / "other")
    other.append(1, module._HEAD.pack(version, ADDRESSES[0]) + zlib.compress(RAW[1]))
    other.close()
    path.write_bytes((tmp_path / "other").read_bytes())
    retained = RetainedLandscapes(tmp_path)
    (address,) = retained.addresses_of(np.array([version], np.uint64))
    assert address is not None
    with pytest.raises(ValueError, match="hashes to"):
        retained.load(address)


@pytest.mark.parametrize("bound", ["days", "bytes"])
def test_old_files_go_and_the_newest_stays(
    tmp_path: Path, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    if bound == "bytes":
        monkeypatch.setattr(module, "MAX_TOTAL_BYTES", 1)
    archive = LandscapeArchive(tmp_path, clock, ZONE)
    step: Callable[[], int] = lambda: archive.next_version(LANDSCAPES[0])  # noqa: E731
    first = step()
    clock.advance_to(NOON_MS + MS_PER_DAY)
    second = step()
    assert len(list(tmp_path.iterdir())) == (1 if bound == "bytes" else 2)
    clock.advance_to(NOON_MS + (KEPT_DAYS + 1) * MS_PER_DAY)
    third = step()
    address = ADDRESSES[0]
    expected = [None, None, address] if bound == "bytes" else [None, address, address]
    assert addresses(tmp_path, first, second, third) == expected
