"""Events by file: taken whole or not at all, lines that are wrong named, and a cut at any point survived."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanbridge.service.event_file import MAX_REJECTS_SHOWN, EventFile, FileRejected, Taken, finish_files
from fanbridge.service.fans import FanRules
from fanbridge.service.server import RunningService, ServiceSettings
from fanbridge.service.store import FanStore
from tests.fanbridge.services import START_AT_MS, connected

LATEST = 10**13
HEADER = "event_id,viewer_id,creator_id,kind,occurred_at_ms"
CSV = f"{HEADER}\n1,5,7,follow,1000\n2,{2**64 - 1},7,10,1001\n3,5,7,ORDER,1002\n".encode()
ROWS = [(1, 5, 7, 6, 1000), (2, 2**64 - 1, 7, 10, 1001), (3, 5, 7, 14, 1002)]


class Pushed:
    """Where events go: a real store, and what it was asked to take."""

    def __init__(self) -> None:
        self.store = FanStore(None, FanRules.with_day())

    def __call__(self, rows: np.ndarray) -> list[int]:
        statuses: list[int] = self.store.push_events(rows, LATEST).tolist()
        return statuses

    @property
    def rows(self) -> list[tuple[int, ...]]:
        return list(map(tuple, self.store.pull_events(0, 10_000)[0].tolist()))


def fed(folder: Path, raw: bytes, is_csv: bool = True, chunk: int = 7) -> EventFile:
    file = EventFile(folder, is_csv, LATEST)
    for at in range(0, len(raw), chunk):
        file.feed(raw[at : at + chunk])
    return file


def lines(*objects: object) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in objects)


def as_object(row: tuple[int, ...]) -> dict[str, int]:
    return dict(zip(HEADER.split(","), row, strict=True))


@pytest.mark.parametrize("chunk", [1, 7, 10_000])
@pytest.mark.parametrize(
    ("raw", "is_csv"),
    [
        (CSV, True),
        (b"\xef\xbb\xbf" + CSV.replace(b"\n", b"\r\n").removesuffix(b"\r\n"), True),
        (CSV.replace(b"\n", b"\n\n"), True),
        (
            b'"kind","creator_id","viewer_id","event_id","occurred_at_ms"\nfollow,7,5,1,1000\n'
            b"like, 7,18446744073709551615,2,1001\norder,7,5,3,1002",
            True,
        ),
        (lines(*map(as_object, ROWS)), False),
        (lines({**as_object(ROWS[0]), "kind": "follow", "viewer_id": "5"}, *map(as_object, ROWS[1:])), False),
    ],
)
def test_the_forms_that_a_file_may_have(tmp_path: Path, raw: bytes, is_csv: bool, chunk: int) -> None:
    pushed = Pushed()
    assert fed(tmp_path, raw, is_csv, chunk).take(pushed) == Taken(3, 0)
    assert pushed.rows == ROWS
    assert list(tmp_path.iterdir()) == []
    assert fed(tmp_path, raw, is_csv).take(pushed) == Taken(0, 3)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"0,5,7,like,1000", f"event_id 0: must be 1..{2**64 - 1}"),
        (b"9,18446744073709551616,7,like,1000", "viewer_id 18446744073709551616: must be"),
        (b"9,5,-7,like,1000", "creator_id '-7'"),
        (b"9,5,7,loved,1000", "kind 'loved': must be one of click, comment"),
        (b"9,5,7,billable,1000", "kind 'billable'"),
        (b"9,5,7,2,1000", "kind '2'"),
        (b"9,5,7,like,10000000000001", f"occurred_at_ms 10000000000001: must be 1..{LATEST}"),
        (b"9,5,7,like", "4 cells; must be 5 like the header"),
        (b"9,5,7,like,\xff", "not UTF-8"),
        (b"9" * 5_000, "longer than 1000 bytes"),
    ],
)
def test_a_wrong_line_is_named_and_nothing_is_taken(tmp_path: Path, line: bytes, reason: str) -> None:
    pushed = Pushed()
    with pytest.raises(FileRejected) as rejected:
        fed(tmp_path, CSV + line + b"\n4,5,7,like,1003\n" + line, chunk=999).take(pushed)
    assert [one.line for one in rejected.value.rejects] == [5, 7]
    assert reason in rejected.value.rejects[0].reason
    assert pushed.rows == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"{", "not JSON"),
        (b"[" * 900, "not JSON"),
        (b"[]", "not a JSON object"),
        (lines({"event_id": 1, "colour": 2}), "without creator_id, kind, occurred_at_ms, viewer_id; unknown colour"),
        (lines({**as_object(ROWS[0]), "event_id": True}), "event_id True"),
        (lines({**as_object(ROWS[0]), "kind": None}), "kind None"),
        (lines({**as_object(ROWS[0]), "occurred_at_ms": 1.5}), "occurred_at_ms 1.5"),
    ],
)
def test_a_wrong_object_is_named(tmp_path: Path, raw: bytes, reason: str) -> None:
    with pytest.raises(FileRejected, match="line 1: ") as rejected:
        fed(tmp_path, raw, is_csv=False).take(Pushed())
    assert reason in str(rejected.value)


@pytest.mark.parametrize("raw", [b"", b"event_id,viewer_id\n1,2\n", b"1,5,7,follow,1000\n"])
def test_a_csv_without_its_header_is_refused(tmp_path: Path, raw: bytes) -> None:
    with pytest.raises(FileRejected, match="header"):
        fed(tmp_path, raw).take(Pushed())


def test_many_rejects_are_counted_and_some_are_shown(tmp_path: Path) -> None:
    with pytest.raises(FileRejected) as rejected:
        fed(tmp_path, CSV + b"x\n" * 500, chunk=100).take(Pushed())
    assert (rejected.value.count, len(rejected.value.rejects)) == (500, MAX_REJECTS_SHOWN)


@given(st.binary(max_size=300), st.booleans())
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_taken_or_refused(raw: bytes, is_csv: bool) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        file = fed(folder, raw, is_csv)
        try:
            file.take(Pushed())
        except FileRejected as rejected:
            assert rejected.count > 0
        assert list(folder.iterdir()) == []


def test_a_start_finishes_what_was_complete_and_forgets_the_rest(tmp_path: Path) -> None:
    pushed = Pushed()

    def dies_half_way(rows: np.ndarray) -> list[int]:
        pushed(rows[:2])
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        fed(tmp_path, CSV).take(dies_half_way)
    fed(tmp_path, CSV.replace(b"1,5", b"9,5"))  # half of another
    finish_files(tmp_path, pushed)
    assert pushed.rows == ROWS
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def service(tmp_path: Path) -> Iterator[RunningService]:
    running = RunningService(ServiceSettings(tmp_path, virtual_start_at_ms=START_AT_MS, rest_listen="127.0.0.1:0"))
    yield running
    running.stop()


def post(service: RunningService, raw: bytes, media_type: str) -> tuple[int, Any]:
    headers = {"Content-Type": media_type}
    request = urllib.request.Request(f"{service.rest_address}/api/events", raw, headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        return refused.code, json.load(refused)


def test_a_file_over_http_moves_fans(service: RunningService) -> None:
    told = [f"{i},{i},7,{'follow' if i % 2 else 'gift'},{START_AT_MS + i}" for i in range(1, 12_001)]
    raw = "\n".join([HEADER, *told]).encode()
    assert post(service, raw, "text/csv; charset=utf-8") == (200, {"accepted": 12_000, "duplicates": 0})
    assert post(service, raw, "text/csv") == (200, {"accepted": 0, "duplicates": 12_000})
    status, refused = post(service, raw + b"\n13000,5,7,like,0", "text/csv")
    assert (status, refused["error"]["rejects"][0]["line"]) == (422, 12_002)
    assert post(service, b"", "application/x-ndjson") == (200, {"accepted": 0, "duplicates": 0})
    assert post(service, raw, "application/json")[0] == 415
    with connected(service.address) as client:
        assert len(client.pull_events("", 10_000).rows) == 10_000
        assert service.store.fan(12_000, 7) is not None
        assert client.pull_tiers("", 1).rows["viewer_id"].tolist() == [1]
