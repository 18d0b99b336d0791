"""A served engine and a fan service over TLS: who shows the right certificate is served, nobody else is."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import grpc
import pytest

import fanbid
from benchmarks.serving import Child, RunningServer, running_server, start_child
from fanbridge.client import FanServiceClient
from fanbridge.delivery import Delivery
from fanbridge.events import FanServiceUnavailable
from pacing.facts import OutcomeKind, RowStatus
from protos import campaigns_pb2
from protos.rpc.tls import ClientTls, ServerTls, open_channel
from tests.fanbridge.services import events
from tests.protos.rpc.certificates import Authority, make_authority
from tests.protos.rpc.http2 import PREFACE, frame, raw_peer

LIST = "/fanbid.v1.Campaigns/ListCampaigns"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def ours(folder: Path) -> Authority:
    return make_authority(folder, "ours")


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Authority:
    return make_authority(folder, "theirs")


@pytest.fixture(scope="module")
def client(ours: Authority) -> ClientTls:
    return ClientTls(ours.ca, *ours.issue("client"))


@pytest.fixture(scope="module")
def fans(ours: Authority, folder: Path) -> Iterator[Child]:
    certificate, key = ours.issue("fans")
    flags = ["--tls-cert", str(certificate), "--tls-key", str(key), "--tls-client-ca", str(ours.ca)]
    flags += ["--rest-listen", "127.0.0.1:0"]
    child = start_child("fan-service", ["fan-service", "--data", str(folder / "fans"), *flags], folder / "fans")
    yield child
    child.stop()


@pytest.fixture(scope="module")
def fan_service(fans: Child) -> str:
    return str(fans.ready["grpc"])


@pytest.fixture(scope="module")
def server(ours: Authority, client: ClientTls, folder: Path, fan_service: str) -> Iterator[RunningServer]:
    certificate, key = ours.issue("server")
    flags = ["--tls-cert", str(certificate), "--tls-key", str(key), "--tls-client-ca", str(ours.ca)]
    bridge = ["--fan-service", fan_service, "--fan-service-ca", str(ours.ca)]
    with running_server(folder / "served", *flags, *bridge, tls=client) as server:
        yield server


def list_campaigns(server: RunningServer, tls: ClientTls | None) -> bytes:
    with open_channel(server.grpc_address, tls, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        metadata = (("authorization", f"Bearer {server.token('operator')}"),)
        raw: bytes = channel.unary_unary(LIST)(b"", metadata=metadata, timeout=10)
        return raw


def test_the_right_certificate_is_served(server: RunningServer, client: ClientTls) -> None:
    assert list_campaigns(server, client) == b""
    answer = server.transport("operator").call(
        "Campaigns/ListCampaigns", campaigns_pb2.ListCampaignsRequest(), campaigns_pb2.ListCampaignsResponse
    )
    assert list(answer.campaigns) == []


def test_a_certificate_does_not_replace_a_token(server: RunningServer, client: ClientTls) -> None:
    with open_channel(server.grpc_address, client, []) as channel, pytest.raises(grpc.RpcError) as error:
        channel.unary_unary(LIST)(b"", timeout=10)
    assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_no_or_a_wrong_certificate_is_refused(server: RunningServer, ours: Authority, theirs: Authority) -> None:
    stranger = theirs.issue("stranger")
    for tls in (None, ClientTls(ours.ca), ClientTls(ours.ca, *stranger)):
        with pytest.raises(grpc.RpcError) as error:
            list_campaigns(server, tls)
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_client_does_not_believe_a_server_of_another_authority(
    server: RunningServer, client: ClientTls, theirs: Authority
) -> None:
    with pytest.raises(grpc.RpcError) as error:
        list_campaigns(server, ClientTls(theirs.ca, client.certificate, client.key))
    assert error.value.code() is grpc.StatusCode.UNAVAILABLE


def test_who_greets_in_the_clear_is_hung_up_on(server: RunningServer) -> None:
    with raw_peer(server.grpc_address) as peer:
        peer.send(PREFACE, frame(4))
        assert peer.seconds_until_closed(10) < 10


def test_the_shim_reaches_the_engine_and_speaks_tls_itself(server: RunningServer, ours: Authority) -> None:
    assert server.rest_address is not None and server.rest_address.startswith("https://")
    request = Request(
        f"{server.rest_address}/api/campaigns", headers={"Authorization": f"Bearer {server.token('operator')}"}
    )
    believing = ssl.create_default_context(cafile=str(ours.ca))
    with urlopen(request, timeout=10, context=believing) as answer:
        assert answer.status == 200
    with urlopen(f"{server.rest_address}/healthz", timeout=10, context=believing) as answer:
        assert answer.status == 200
    with pytest.raises(URLError):
        urlopen(request, timeout=10)


def test_the_bridge_reaches_the_fan_service(server: RunningServer, fan_service: str, client: ClientTls) -> None:
    fans = FanServiceClient(fan_service, tls=client)
    now_ms = time.time_ns() // 1_000_000
    told = events((1, 5, 7, OutcomeKind.FOLLOW, now_ms))
    assert fans.push_events(told).tolist() == [RowStatus.ACCEPTED]
    fans.close()
    deadline_s = time.monotonic() + 20
    delivery = Delivery(server.data_dir / "delivery.sqlite")
    while not delivery.cursor("events"):
        assert time.monotonic() < deadline_s, server.child.log_tail()
        time.sleep(0.05)
    delivery.close()
    stranger = FanServiceClient(fan_service, tls=ClientTls(client.ca))
    with pytest.raises(FanServiceUnavailable):
        stranger.pull_tiers("", 1)
    stranger.close()


def test_the_fan_service_asks_for_certificates_over_http_too(fans: Child, client: ClientTls) -> None:
    address = str(fans.ready["rest"])
    assert address.startswith("https://")
    assert client.certificate is not None and client.key is not None
    believing = ssl.create_default_context(cafile=str(client.ca))
    with pytest.raises((URLError, ssl.SSLError, ConnectionError)):
        urlopen(f"{address}/healthz", timeout=10, context=believing)
    believing.load_cert_chain(client.certificate, client.key)
    with urlopen(f"{address}/healthz", timeout=10, context=believing) as answer:
        assert answer.status == 200


def test_a_shim_of_its_own_needs_authorities_and_a_certificate(
    server: RunningServer, client: ClientTls, folder: Path
) -> None:
    flags = ["--engine", server.grpc_address, "--listen", "127.0.0.1:0", "--engine-ca", str(client.ca)]
    flags += ["--engine-cert", str(client.certificate), "--engine-key", str(client.key)]
    child = start_child("rest", ["rest", *flags], folder / "rest")
    try:
        with urlopen(f"{child.ready['rest']}/healthz", timeout=10) as answer:
            assert answer.status == 200
    finally:
        child.stop()


def test_what_is_exported_for_another_server_does_not_reach_the_one_of_a_bench(
    ours: Authority, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = ours.issue("exported")
    monkeypatch.setenv("FANBID_TLS_CERT", str(certificate))
    monkeypatch.setenv("FANBID_TLS_KEY", str(key))
    monkeypatch.setenv("FANBID_TLS_CLIENT_CA", str(ours.ca))
    with running_server(folder / "plain", "--no-rest", "--no-bridge") as plain:
        assert list_campaigns(plain, None) == b""


def test_files_that_cannot_be_used_are_named(ours: Authority, folder: Path) -> None:
    certificate, _ = ours.issue("one")
    _, other_key = ours.issue("another")
    junk = folder / "junk.pem"
    junk.write_text("no certificate")
    bad = {
        f"{other_key}: not the key of the certificate {certificate}": ServerTls(certificate, other_key),
        f"{junk}, {other_key}: not a PEM certificate": ServerTls(junk, other_key),
        f"{junk}: no PEM certificates of authorities": ClientTls(junk),
        f"{folder / 'none'}: cannot be read": ClientTls(folder / "none"),
        "needs both a certificate and its key": ClientTls(ours.ca, certificate),
    }
    for text, tls in bad.items():
        with pytest.raises(ValueError) as error:
            tls.check()
        assert text in str(error.value)


def test_the_command_line_names_the_flag(ours: Authority, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    certificate, key = ours.issue("lone")
    _, other_key = ours.issue("mixed")
    wrong = [
        (["serve", "--tls-cert", str(certificate)], f"--tls-cert {certificate}: needs --tls-key too"),
        (["serve", "--tls-key", str(key)], f"--tls-key {key}: needs --tls-cert too"),
        (["serve", "--tls-client-ca", str(ours.ca)], f"--tls-client-ca {ours.ca}: needs --tls-cert and --tls-key too"),
        (["serve", "--tls-cert", str(certificate), "--tls-key", str(other_key)], "not the key of the certificate"),
        (["serve", "--fan-service-ca", str(key)], "--fan-service-ca"),
        (["rest", "--engine", "127.0.0.1:1", "--engine-key", str(key)], "need --engine-ca too"),
        (["rest", "--engine", "127.0.0.1:1", "--tls-key", str(key)], "--tls-cert, --tls-key: each needs the other"),
        (["fan-service", "--data", str(folder), "--tls-cert", str(certificate)], "each needs the other"),
    ]
    for arguments, text in wrong:
        assert fanbid.main(arguments) == fanbid.EXIT_BAD_INPUT
        assert text in capsys.readouterr().err
