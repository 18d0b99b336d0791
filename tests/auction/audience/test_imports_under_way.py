"""Files in parts of several callers: none of them can stop another's, or hold room for good."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import grpc
import httpx
import numpy as np
import pytest

from auction.audience import imports_under_way as module
from auction.campaigns.access import Role
from auction.rest import lists
from protos import audience_pb2 as pb
from protos.audience_pb2_grpc import AudienceStub
from targeting.lookalike.seed_list import MAX_IDS
from targeting.segments.portable import ids_to_bytes
from tests.auction.audience.serving import served_calls
from tests.auction.bid.engines import Engine
from tests.auction.rest.serving import served_engine


@pytest.fixture
def engine() -> Iterator[Engine]:
    running = Engine()
    running.services.viewers.ensure(np.arange(1, 2_001, dtype=np.uint64))
    yield running
    running.close()


@pytest.fixture
def stub(engine: Engine) -> Iterator[AudienceStub]:
    with served_calls(engine) as address, grpc.insecure_channel(address) as channel:
        yield AudienceStub(channel)


class Caller:
    """Sends parts of files with one token."""

    def __init__(self, engine: Engine, stub: AudienceStub, role: Role, creator_id: int = 0) -> None:
        self._stub = stub
        self._metadata = (("authorization", f"Bearer {engine.token(role, creator_id)}"),)

    def part(self, import_id: int, size: int, offset: int, part: bytes) -> pb.ImportSegmentResponse:
        request = pb.ImportSegmentRequest(
            segment_id="filed", change=1, import_id=import_id, size=size, offset=offset, part=part
        )
        return self._stub.ImportSegment(request, metadata=self._metadata, timeout=20)

    def begin(self, import_id: int, size: int = 9) -> int:
        return self.part(import_id, size, 0, b"a").received

    def is_under_way(self, import_id: int, size: int = 9) -> bool:
        try:
            return self.part(import_id, size, 1, b"a").received == 2
        except grpc.RpcError as refused:
            assert refused.code() is grpc.StatusCode.INVALID_ARGUMENT and "begin again" in refused.details()
            return False


def test_of_one_callers_files_the_oldest_gives_way(engine: Engine, stub: AudienceStub) -> None:
    operator = Caller(engine, stub, Role.OPERATOR)
    for import_id in range(module.MAX_A_CALLER + 1):
        assert operator.begin(import_id) == 1
    assert [operator.is_under_way(import_id) for import_id in range(3)] == [False, True, True]
    assert "filed" not in engine.services.segments.names


@pytest.mark.parametrize("other", [(Role.OPERATOR, 0), (Role.CREATOR, 18)])
def test_a_creator_who_begins_in_a_loop_stops_nobody(
    engine: Engine, stub: AudienceStub, other: tuple[Role, int]
) -> None:
    greedy, patient = Caller(engine, stub, Role.CREATOR, 17), Caller(engine, stub, *other)
    content = ids_to_bytes(np.arange(1, 2_001, 2, dtype=np.uint64))
    put = pb.ImportSegmentResponse()
    for offset in range(0, len(content), 500):
        put = patient.part(1, len(content), offset, content[offset : offset + 500])
        for import_id in range(20):
            greedy.begin(import_id, module.MAX_FILE_BYTES)
    assert len(content) > 2 * 500 and put.members == 1_000


def test_files_that_would_be_too_much_are_refused_until_others_end(
    engine: Engine, stub: AudienceStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 40)
    callers = [Caller(engine, stub, Role.CREATOR, creator_id) for creator_id in (17, 18)]
    operator = Caller(engine, stub, Role.OPERATOR)
    assert callers[0].begin(1, 20) == callers[0].begin(2, 20) == 1
    with pytest.raises(grpc.RpcError) as refused:
        callers[1].begin(1, 20)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "size 20: files under way hold 40 of 40 bytes" in refused.value.details()
    assert dict(refused.value.trailing_metadata())["retry-after"] == "5"
    assert operator.begin(1, 40) == 1, "creators never hold operators up"
    engine.jump(module.IDLE_MS - 1)
    assert callers[0].is_under_way(2, 20), "its own are kept, and a part keeps one longer"
    engine.jump(1)
    assert callers[1].begin(1, 20) == 1, "the other one was given up"
    assert not callers[0].is_under_way(1, 20)


def test_a_file_that_trickles_is_given_up_in_the_end(engine: Engine, stub: AudienceStub) -> None:
    operator = Caller(engine, stub, Role.OPERATOR)
    operator.begin(1, 100)
    received = 1
    for _ in range(module.LONGEST_MS // (module.IDLE_MS // 2) - 1):
        engine.jump(module.IDLE_MS // 2)
        received = operator.part(1, 100, received, b"a").received
    engine.jump(module.IDLE_MS // 2)
    with pytest.raises(grpc.RpcError, match="begin again"):
        operator.part(1, 100, received, b"a")


def test_a_list_over_rest_comes_whole_beside_a_creator_who_begins_in_a_loop(
    engine: Engine, stub: AudienceStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "_PART_BYTES", 60)
    greedy, ended = Caller(engine, stub, Role.CREATOR, 17), threading.Event()
    begun = []

    def begin_again_and_again() -> None:
        while not ended.is_set():
            begun.append(greedy.begin(len(begun), module.MAX_FILE_BYTES))

    looping = threading.Thread(target=begin_again_and_again)
    looping.start()
    ids = "\n".join(map(str, range(1, 2_001, 2)))
    try:
        with served_engine(engine) as address:
            for role, creator_id in ((Role.OPERATOR, 0), (Role.CREATOR, 18)):
                headers = {"Authorization": f"Bearer {engine.token(role, creator_id)}", "Content-Type": "text/csv"}
                path = f"{address}/api/audiences/lists/rested"
                answer = httpx.put(path, content=ids.encode(), headers=headers, timeout=60)
                assert (answer.status_code, answer.json()["members"]) == (200, 1_000), answer.text
    finally:
        ended.set()
        looping.join()
    assert len(begun) > 4


def test_the_longest_list_goes_in_however_far_apart_its_ids_lie() -> None:
    apart = np.arange(1, 1_001, dtype=np.uint64) << np.uint64(33)
    assert len(ids_to_bytes(apart)) * MAX_IDS / len(apart) <= module.MAX_FILE_BYTES
