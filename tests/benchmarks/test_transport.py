from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures

import grpc
import pytest

from benchmarks.transport import EngineTransport, GrpcTransport
from protos import bidding_pb2


class EchoServices:
    """Answers a BidRequest with its id, and remembers who called what."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    def handle(self, service_method: str, raw: bytes, token: str) -> bytes:
        self.calls.append((service_method, token))
        request = bidding_pb2.BidRequest.FromString(raw)
        if not request.id:
            raise ValueError("id '': must have 1 to 64 bytes")
        return bidding_pb2.BidResponse(id=request.id, nbr=[500] * len(request.viewers.ids)).SerializeToString()


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, services: EchoServices) -> None:
        self._services = services

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        method = details.method.removeprefix("/fanbid.v1.")
        token = dict(details.invocation_metadata)["authorization"].removeprefix("Bearer ")

        def answer(raw: bytes, context: grpc.ServicerContext) -> bytes:
            try:
                return self._services.handle(method, raw, token)
            except ValueError as refused:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(refused))

        return grpc.unary_unary_rpc_method_handler(answer)


@pytest.fixture
def grpc_transport() -> Iterator[tuple[EchoServices, GrpcTransport]]:
    services = EchoServices()
    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=[_Handlers(services)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield services, GrpcTransport(channel, "secret")
    server.stop(None).wait()


def _request(request_id: str) -> bidding_pb2.BidRequest:
    return bidding_pb2.BidRequest(id=request_id, at=2, viewers=bidding_pb2.Viewers(ids=[7, 8]))


def test_both_transports_carry_the_same_messages(grpc_transport: tuple[EchoServices, GrpcTransport]) -> None:
    services, over_grpc = grpc_transport
    in_process = EngineTransport(services, "secret")
    answers = [t.call("Bidding/Bid", _request("a"), bidding_pb2.BidResponse) for t in (over_grpc, in_process)]
    assert answers[0] == answers[1]
    assert answers[0].id == "a"
    assert list(answers[0].nbr) == [500, 500]
    assert services.calls == [("Bidding/Bid", "secret")] * 2


def test_refusals_reach_the_caller(grpc_transport: tuple[EchoServices, GrpcTransport]) -> None:
    services, over_grpc = grpc_transport
    with pytest.raises(grpc.RpcError) as refused:
        over_grpc.call("Bidding/Bid", _request(""), bidding_pb2.BidResponse)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(ValueError, match="id ''"):
        EngineTransport(services, "secret").call("Bidding/Bid", _request(""), bidding_pb2.BidResponse)
