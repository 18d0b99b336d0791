"""`fanbid audience` with tokens of both sides, against a whole engine: all of a list is taken, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from auction.audience import client, segment_files_wire
from auction.campaigns.access import Role
from tests.auction.audience.serving import served_calls
from tests.auction.audience.test_audience_client import run
from tests.auction.bid.engines import Engine

OWN = "own:17:"
Command = Callable[..., int]


@pytest.fixture
def engine() -> Iterator[Engine]:
    running = Engine()
    running.services.viewers.ensure(np.arange(1, 1_501, dtype=np.uint64))
    yield running
    running.close()


@pytest.fixture
def command(engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Command]:
    """Runs an action on a list of ids with a creator's token."""
    monkeypatch.setenv(client.TOKEN_VARIABLE, engine.token(Role.CREATOR, 17))
    monkeypatch.setattr(segment_files_wire, "MAX_PART_BYTES", 10)  # several parts a list
    path = tmp_path / "list.csv"
    with served_calls(engine) as address:

        def on_list(action: str, ids: range, name: str, *more: str) -> int:
            path.write_text("\n".join(map(str, ids)))
            return run(action, str(path), "--segment", name, "--server", address, *more)

        yield on_list


def members(engine: Engine, name: str) -> set[int]:
    return set(engine.services.viewers.ids[engine.services.segments.rows(name)].tolist())


def test_a_creators_list_is_judged_whole_and_says_who_was_left_out(engine: Engine, command: Command, capsys) -> None:
    ids = range(1, 3_001, 2)  # in parts with fewer than 1,000 known ids each
    with pytest.raises(ValueError, match="750 viewers who are known"):
        command("upload", ids, "mine")
    assert command("upload", range(1, 3_001), "mine") == 0
    assert capsys.readouterr().out == "mine: 1,500 members; 1,500 ids left out, of nobody who is known\n"
    assert members(engine, f"{OWN}mine") == set(range(1, 1_501))
    assert command("upload", range(1, 1_201), "mine") == 0
    assert capsys.readouterr().out == "mine: 1,200 members\n"


def test_a_list_that_fails_between_its_parts_leaves_what_was(
    engine: Engine, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command("upload", range(1, 1_101), "mine") == 0
    before, calls = members(engine, f"{OWN}mine"), []
    call = segment_files_wire.SegmentFilesClient._call

    def fails_at_the_second(self, *arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise segment_files_wire.CallFailed("the connection is gone")
        return call(self, *arguments)

    monkeypatch.setattr(segment_files_wire.SegmentFilesClient, "_call", fails_at_the_second)
    with pytest.raises(ValueError, match="is gone"):
        command("upload", range(2, 1_501), "mine")
    assert len(calls) == 2 and members(engine, f"{OWN}mine") == before


def test_seeds_that_are_refused_leave_those_that_were(engine: Engine, command: Command) -> None:
    assert command("upload", range(1, 1_101), "like.seeds") == 0
    with pytest.raises(ValueError, match="9 viewers who are known"):
        command("lookalike", range(1, 10), "like", "--size", "1000")
    assert members(engine, f"{OWN}like.seeds") == set(range(1, 1_101))


@pytest.mark.parametrize("name", ["like", f"{OWN}like"])
def test_a_lookalike_that_is_refused_takes_away_only_seeds_that_it_brought(
    engine: Engine, command: Command, name: str
) -> None:
    with pytest.raises(ValueError, match="a creator's lookalike must have 1000"):
        command("lookalike", range(1, 1_101), name, "--size", "5")
    assert members(engine, f"{OWN}like.seeds") == set()
    assert command("upload", range(1, 1_101), "like.seeds") == 0
    with pytest.raises(ValueError, match="a creator's lookalike must have 1000"):
        command("lookalike", range(1, 1_201), name, "--size", "5")
    assert members(engine, f"{OWN}like.seeds") == set(range(1, 1_201)), "there was a list, and is one"


def test_an_operators_seeds_are_found_behind_many_segments(
    engine: Engine, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(client.TOKEN_VARIABLE, engine.token(Role.OPERATOR))
    monkeypatch.setattr(client, "_PAGE_SIZE", 2)
    for name in ("a1", "a2", "a3", "like.seeds", "z"):
        assert command("upload", range(1, 41), name) == 0
    with pytest.raises(ValueError, match="size 2000000"):
        command("lookalike", range(1, 51), "like", "--size", "2000000")
    assert members(engine, "like.seeds") == set(range(1, 51))
    with pytest.raises(ValueError, match="size 2000000"):
        command("lookalike", range(1, 51), "new", "--size", "2000000")
    assert members(engine, "new.seeds") == set()
