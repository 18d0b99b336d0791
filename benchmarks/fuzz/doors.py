"""Malformed input through real sockets at a served engine: every RPC, every REST route, and both ports as such."""

from __future__ import annotations

import http.client
import socket
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import grpc
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from benchmarks.fuzz.findings import Findings, together
from benchmarks.fuzz.memory import Memory, resident_bytes
from benchmarks.fuzz.mutation import Mutator
from benchmarks.fuzz.seeds import ATOMS, CAMPAIGN_JSON, CREATOR, ROUTES, SECOND_PRICE, bid_seeds, campaign
from benchmarks.output import ProgressBar
from benchmarks.serving import RunningServer, running_server
from protos import audience_pb2, bidding_pb2, campaigns_pb2
from protos.rpc.health_service import REFLECTION_SERVICE

NEVER = {grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DATA_LOSS}
ROLES = {"Bidding": "feed", "Campaigns": "creator", "Audience": "operator", "Simulation": "feed"}
CALL_TIMEOUT_S = 20.0
WIDTH = 8
"""Calls under way at once, so that inputs meet in the server."""
BATCH = 256
WARM_INPUTS = 1_024
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"


def fuzz_served(inputs: int, seed: int, bar: ProgressBar) -> tuple[list[Findings], Memory]:
    """Serve an engine and send it `inputs` inputs, the same half of them twice.

    Half go by gRPC, a fourth by REST, a fourth as plain bytes.
    """
    with tempfile.TemporaryDirectory(prefix="fanbid-fuzz-") as folder:
        flags = ("--no-bridge", "--policy", "fixed", "--calls-per-s", "0")
        with running_server(Path(folder), *flags) as server:
            request = campaigns_pb2.CreateCampaignRequest(campaign=campaign(creator_id=0))
            server.transport("creator", CREATOR).call("Campaigns/CreateCampaign", request, campaigns_pb2.Campaign)
            _warm(server, Mutator(seed), bar)
            marks = [resident_bytes(server.child.pid)]
            found: list[Findings] = []
            for _ in range(2):
                found += _fuzz_doors(server, Mutator(seed), -(-inputs // 2), bar)
                marks.append(resident_bytes(server.child.pid))
            _check_alive(server, found[-1])
    return together(found), Memory(*marks)


def _fuzz_doors(server: RunningServer, mutator: Mutator, inputs: int, bar: ProgressBar) -> list[Findings]:
    return [
        *_fuzz_calls(server, mutator, -(-inputs // 2), bar),
        _fuzz_rest(server, mutator, -(-inputs // 4), bar),
        _fuzz_port(server, mutator, server.grpc_address, "gRPC port", -(-inputs // 8), bar),
        _fuzz_port(server, mutator, _rest_port(server), "REST port", -(-inputs // 8), bar),
    ]


def _warm(server: RunningServer, mutator: Mutator, bar: ProgressBar) -> None:
    """Once through everything, so that what is kept for ever has been made before memory is measured."""
    _fuzz_calls(server, mutator, WARM_INPUTS // 2, bar)
    _fuzz_rest(server, mutator, WARM_INPUTS // 2, bar)


def _rest_port(server: RunningServer) -> str:
    return urlsplit(server.rest_address or "").netloc


def _calls() -> Iterator[tuple[str, Any, bool]]:
    for module in (bidding_pb2, campaigns_pb2, audience_pb2):
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                yield f"fanbid.v1.{service.name}/{method.name}", method.input_type, method.server_streaming
    yield "grpc.health.v1.Health/Check", health_pb2.HealthCheckRequest.DESCRIPTOR, False
    yield "grpc.health.v1.Health/Watch", health_pb2.HealthCheckRequest.DESCRIPTOR, True
    reflected = reflection_pb2.ServerReflectionRequest.DESCRIPTOR
    yield f"{REFLECTION_SERVICE}/ServerReflectionInfo", reflected, True


def _fuzz_calls(server: RunningServer, mutator: Mutator, inputs: int, bar: ProgressBar) -> list[Findings]:
    calls = list(_calls())
    return [_fuzz_call(server, mutator, call, -(-inputs // len(calls)), bar) for call in calls]


def _fuzz_call(
    server: RunningServer, mutator: Mutator, call: tuple[str, Any, bool], count: int, bar: ProgressBar
) -> Findings:
    path, descriptor, streams = call
    name = path.removeprefix("fanbid.v1.")
    findings = Findings(f"gRPC {name}")
    role = ROLES.get(name.partition("/")[0], "operator")
    metadata = (("authorization", f"Bearer {server.token(role, CREATOR if role == 'creator' else 0)}"),)
    kind = server.channel.unary_stream if streams else server.channel.unary_unary
    seeds = bid_seeds() if name == "Bidding/Bid" else []
    for start in range(0, count, WIDTH):
        drawn = [
            mutator.input_from(seeds) if seeds and mutator.choose((True, False)) else mutator.message_bytes(descriptor)
            for _ in range(min(WIDTH, count - start))
        ]
        if streams:
            outcomes = [_first_of(kind(f"/{path}")(raw, metadata=metadata, timeout=CALL_TIMEOUT_S)) for raw in drawn]
        else:
            futures = [kind(f"/{path}").future(raw, metadata=metadata, timeout=CALL_TIMEOUT_S) for raw in drawn]
            outcomes = [future.exception() for future in futures]
        for raw, error in zip(drawn, outcomes, strict=True):
            _judge(findings, raw, error)
        bar.advance(len(drawn), findings.target)
    findings.end()
    return findings


def _first_of(stream: Any) -> Any:
    try:
        next(stream)
    except grpc.RpcError as error:
        return error
    except StopIteration:
        return None
    stream.cancel()
    return None


def _judge(findings: Findings, raw: bytes, error: Any) -> None:
    if error is None:
        findings.taken += 1
        return
    code, text = error.code(), error.details() or ""
    if code in NEVER or code is grpc.StatusCode.DEADLINE_EXCEEDED or "Traceback" in text or "Exception" in text:
        findings.fail(raw, f"{code.name}: {text}")
    else:
        findings.refused += 1


def _fuzz_rest(server: RunningServer, mutator: Mutator, count: int, bar: ProgressBar) -> Findings:
    findings = Findings("REST routes")
    connection = http.client.HTTPConnection(_rest_port(server), timeout=CALL_TIMEOUT_S)
    headers = {"Authorization": f"Bearer {server.token('creator', CREATOR)}", "Content-Type": "application/json"}
    for number in range(count):
        method, pattern = mutator.choose(ROUTES)
        path = pattern.format(*(quote(mutator.choose(ATOMS), safe="/%.") for _ in range(pattern.count("{}"))))
        body = mutator.json_bytes(CAMPAIGN_JSON) if method in ("POST", "PATCH") else None
        shown = f"{method} {path} ".encode() + (body or b"")
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            text = answer.read()
        except (http.client.HTTPException, OSError) as error:
            findings.fail(shown, error)
            connection.close()
            continue
        if answer.status >= 500 or b"Traceback" in text:
            findings.fail(shown, f"{answer.status} {text[:300]!r}")
        elif answer.status < 400:
            findings.taken += 1
        else:
            findings.refused += 1
        if number % 32 == 31:
            bar.advance(32, findings.target)
    connection.close()
    bar.advance(count % 32, findings.target)
    findings.end()
    return findings


def _fuzz_port(
    server: RunningServer, mutator: Mutator, address: str, name: str, count: int, bar: ProgressBar
) -> Findings:
    """Bytes that are hardly a protocol; what is asked is only that the server goes on and keeps no connection."""
    findings = Findings(name)
    host, _, port = address.rpartition(":")
    seeds = (
        _PREFACE,
        _PREFACE + b"\x00\x00\x05\x01\x04\x00\x00\x00\x01\x82\x86\x84\x41\x8a",
        b"GET /healthz HTTP/1.1\r\n",
    )

    def send(raw: bytes) -> bool:
        with socket.create_connection((host, int(port)), timeout=CALL_TIMEOUT_S) as peer:
            try:
                peer.sendall(raw)
                peer.shutdown(socket.SHUT_WR)
                while peer.recv(65_536):
                    pass
            except ConnectionError:
                pass
            except TimeoutError:
                return False
        return True

    with ThreadPoolExecutor(WIDTH) as pool:
        for start in range(0, count, BATCH):
            drawn = [mutator.input_from(seeds) for _ in range(min(BATCH, count - start))]
            for raw, closed in zip(drawn, pool.map(send, drawn), strict=True):
                if closed:
                    findings.refused += 1
                else:
                    findings.fail(raw, f"the connection is still open after {CALL_TIMEOUT_S:.0f} s")
            bar.advance(len(drawn), findings.target)
            _check_alive(server, findings)
    findings.end()
    return findings


def _check_alive(server: RunningServer, findings: Findings) -> None:
    request = bidding_pb2.BidRequest(id="r", at=SECOND_PRICE, viewers=bidding_pb2.Viewers(ids=[1]))
    try:
        server.transport("feed").call("Bidding/Bid", request, bidding_pb2.BidResponse)
    except grpc.RpcError as error:
        findings.fail(b"", f"the engine does not answer any more: {error.code()}\n{server.child.log_tail()}")
