"""A restart from saved files is the restart by replay; a file that is of no use is passed over."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from pacing.facts import OutcomeKind
from tests.auction.bid.engines import Engine, tokens_of

SAVED = ("attribution.state", "follows.state", "learner.npz", "report.npz", "progress.json", "visits.state")
OURS = SAVED[:2]


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A folder whose server saved in the middle of a day and then crashed; the time when it did."""
    folder = tmp_path_factory.mktemp("lived") / "server"
    engine = Engine(folder)
    engine.create(creator_id=7)
    for round_ in range(6):
        first = 20 * round_ + 1
        tokens = tokens_of(engine.bid(range(first, first + 20)))
        assert len(tokens) == 20
        engine.report([OutcomeKind.CLICK], tokens[:1])  # before its impression
        engine.go_round()
        engine.report([OutcomeKind.BILLABLE] * 20, tokens, prices_micros=[100] * 20)
        engine.report([OutcomeKind.FOLLOW] * 4 + [OutcomeKind.CLICK] * 3, tokens[2:9])
        engine.report([OutcomeKind.UNFOLLOW] * 2, tokens[2:4])
        engine.report([OutcomeKind.FOLLOW], viewer_ids=[500 + round_], creator_ids=[7])
        engine.go_round()
        if round_ == 3:
            engine.services.save()
        engine.jump(60_000)
    crashed = folder.parent / "crashed"
    shutil.copytree(folder, crashed)
    engine.close()
    return crashed, engine.now_ms


def remembered(folder: Path, now_ms: int) -> tuple[dict[str, list], list[int], int]:
    engine = Engine(folder, start_at_ms=now_ms)
    services = engine.services
    state = services.attribution.state()
    fans = sorted(services.viewers.ids[services.follows.fans_of(7).to_array()].tolist())
    engine.close()
    return {name: np.atleast_2d(rows).tolist() for name, rows in state.items()}, fans, services.viewers.size


@pytest.mark.parametrize("harm", ["gone", "cut", "altered", "of another ledger"])
def test_saved_missing_or_damaged_it_is_the_same(lived: tuple[Path, int], tmp_path: Path, harm: str) -> None:
    crashed, now_ms = lived
    kept, harmed = (Path(shutil.copytree(crashed, tmp_path / name)) for name in ("kept", "harmed"))
    for name in OURS if harm != "gone" else SAVED:
        path = harmed / name
        raw = path.read_bytes()
        if harm == "gone":
            path.unlink()
        elif harm == "cut":
            path.write_bytes(raw[: len(raw) // 2])
        elif harm == "altered":
            path.write_bytes(raw[:-5] + bytes([raw[-5] ^ 1]) + raw[-4:])
        elif name == OURS[0]:
            other = Engine(tmp_path / "other")
            other.services.save()
            shutil.copy(tmp_path / "other" / name, path)
            other.close()
    by_files, by_replay = remembered(kept, now_ms), remembered(harmed, now_ms)
    assert by_files == by_replay
    assert len(by_files[0]["impressions"]) == 120 and len(by_files[0]["follows"]) == 24
    assert len(by_files[1]) == 6 * (4 - 2 + 1)


@pytest.mark.parametrize("name", SAVED)
def test_a_file_cut_short_never_keeps_a_server_down(lived: tuple[Path, int], tmp_path: Path, name: str) -> None:
    crashed, now_ms = lived
    size = (crashed / name).stat().st_size
    for length in (0, 3, size // 3, size - 1):
        folder = Path(shutil.copytree(crashed, tmp_path / f"{length}"))
        with (folder / name).open("r+b") as file:
            file.truncate(length)
        assert len(remembered(folder, now_ms)[0]["impressions"]) == 120
