"""The reference fan service as a program: tiers, lifecycle and retention from events and outcomes, over gRPC."""

from __future__ import annotations

import argparse
import logging
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from fanbridge.service.churn import ChurnRules
from fanbridge.service.event_file import EventFile, finish_files
from fanbridge.service.fans import FanRules
from fanbridge.service.health.reader import HealthReader
from fanbridge.service.health.report import HealthReports
from fanbridge.service.insights import Insights
from fanbridge.service.service import SERVICE_NAME, FanServicer, add_to_server, refuse
from fanbridge.service.store import FanStore
from pacing.clocks import MS_PER_DAY, Clock, SystemClock, VirtualClock
from protos import fans_pb2  # noqa: F401  (reflection finds the service's descriptor once its module is loaded)
from protos.rpc.health_service import Status, add_health_and_reflection
from protos.rpc.ready_file import remove_ready_file, write_ready_file
from protos.rpc.server import RpcServer
from protos.rpc.tls import ServerTls

if TYPE_CHECKING:
    from fanbridge.service.rest import RestServer

STORE_FILE = "fans.sqlite"
_REVIEW_INTERVAL_S = 1.0
_STOP_GRACE_S = 5.0
_WORKERS = 4

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServiceSettings:
    """How a fan service runs: where it keeps its file, where it listens, what time it goes by, when churn alarms."""

    data_dir: Path
    listen: str = "127.0.0.1:0"
    virtual_start_at_ms: int | None = None
    day_ms: int = MS_PER_DAY
    tls: ServerTls | None = None
    rest_listen: str | None = None
    churn: ChurnRules = field(default_factory=ChurnRules)


class RunningService:
    """A fan service that answers at `address` from construction until `stop`.

    Raises:
        ValueError: a setting is out of range, or the address cannot be bound.
    """

    def __init__(self, settings: ServiceSettings, interceptors: Sequence[grpc.ServerInterceptor] = ()) -> None:
        rules = FanRules.with_day(settings.day_ms)
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        self._store = FanStore(settings.data_dir / STORE_FILE, rules)
        self._clock = self._make_clock(settings.virtual_start_at_ms)
        self._stopping = threading.Event()
        self._server = RpcServer(_WORKERS, refuse, interceptors)
        self._reports = HealthReports(
            HealthReader(settings.data_dir / STORE_FILE), settings.day_ms, self._clock.wall_ms
        )
        self._servicer = FanServicer(self._store, self._clock, self._reports)
        finish_files(settings.data_dir, self._servicer.take_events)
        add_to_server(self._servicer, self._server)
        self._health = add_health_and_reflection(self._server, (SERVICE_NAME,))
        self.address = self._bind(settings)
        self._rest = self._start_rest(settings, rules)
        self._server.start()
        self._health.set(Status.SERVING, ("", SERVICE_NAME))
        self._reviewer: threading.Thread | None = None
        if settings.virtual_start_at_ms is None:
            self._reviewer = threading.Thread(target=self._review_forever, name="fan-review", daemon=True)
            self._reviewer.start()

    @property
    def rest_address(self) -> str | None:
        """Where it answers over HTTP; None: nowhere."""
        return None if self._rest is None else self._rest.address

    @property
    def store(self) -> FanStore:
        """What the service remembers."""
        return self._store

    def stop(self) -> None:
        """Take no new calls, finish those under way, close the file."""
        self._health.stop_serving()
        self._stopping.set()
        self._server.stop(_STOP_GRACE_S)
        if self._rest is not None:
            self._rest.stop()
        if self._reviewer is not None:
            self._reviewer.join()
        self._close_files()

    def _close_files(self) -> None:
        self._reports.close()
        self._store.close()

    def _make_clock(self, virtual_start_at_ms: int | None) -> Clock:
        if virtual_start_at_ms is None:
            return SystemClock()
        return VirtualClock(max(virtual_start_at_ms, self._store.newest_at_ms))

    def _bind(self, settings: ServiceSettings) -> str:
        try:
            return self._server.bind(settings.listen, settings.tls)
        except ValueError:
            self._server.stop(0)
            self._close_files()
            raise

    def _start_rest(self, settings: ServiceSettings, rules: FanRules) -> RestServer | None:
        if settings.rest_listen is None:
            return None
        from fanbridge.service.rest import Backend, RestServer  # who wants none need not wait for its packages

        insights = Insights(settings.data_dir / STORE_FILE, rules, settings.churn)
        backend = Backend(
            insights,
            self._clock.wall_ms,
            lambda is_csv: EventFile(settings.data_dir, is_csv, self._servicer.latest_at_ms()),
            lambda file: file.take(self._servicer.take_events),
        )
        try:
            return RestServer(backend, settings.rest_listen, settings.tls)
        except ValueError:
            insights.close()
            self._server.stop(0)
            self._close_files()
            raise

    def _review_forever(self) -> None:
        while not self._stopping.wait(_REVIEW_INTERVAL_S):
            try:
                self._store.review(self._clock.wall_ms())
            except Exception:
                _log.exception("fans were not reviewed; trying again")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `fan-service`."""
    parser.add_argument("--data", type=Path, required=True, help="folder for the service's file")
    parser.add_argument("--listen", default="127.0.0.1:0", help="host:port to serve gRPC on; port 0 picks a free one")
    parser.add_argument(
        "--rest-listen",
        metavar="HOST:PORT",
        help="serve reasons, transitions, churn alarms, win-back and event files over HTTP here",
    )
    parser.add_argument(
        "--days-between-false-alarms",
        type=int,
        default=ChurnRules().days_between_false_alarms,
        metavar="DAYS",
        help="of churn, for a creator to whom nothing happens, on average, at least; default %(default)s",
    )
    parser.add_argument("--ready-file", type=Path, help="file to write the address to, as JSON, once it is ready")
    parser.add_argument(
        "--virtual-clock",
        type=int,
        metavar="START_AT_MS",
        help="go by the newest event or outcome seen instead of the system's time, starting at this instant",
    )
    parser.add_argument("--tls-cert", type=Path, metavar="FILE", help="serve over TLS with this certificate (PEM)")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="key of --tls-cert (PEM, not encrypted)")
    parser.add_argument("--tls-client-ca", type=Path, metavar="FILE", help="callers must show a certificate of these")
    parser.add_argument(
        "--day-ms", type=int, default=MS_PER_DAY, help="length of a day in tiers, lifecycle and retention, for studies"
    )


def main(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT; answers the exit code.

    Raises:
        ValueError: a flag cannot be used; the text names it.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        churn = ChurnRules(args.days_between_false_alarms)
    except ValueError as error:
        raise ValueError(f"--days-between-false-alarms: {error}") from None
    settings = ServiceSettings(
        args.data, args.listen, args.virtual_clock, args.day_ms, _tls_of(args), args.rest_listen, churn
    )
    service = RunningService(settings)
    try:
        if args.ready_file is not None:
            write_ready_file(args.ready_file, grpc=service.address, rest=service.rest_address)
        stop.wait()
    finally:
        if args.ready_file is not None:
            remove_ready_file(args.ready_file)
        service.stop()
    return 0


def _tls_of(args: argparse.Namespace) -> ServerTls | None:
    if args.tls_cert is None and args.tls_key is None and args.tls_client_ca is None:
        return None
    if args.tls_cert is None or args.tls_key is None:
        raise ValueError("--tls-cert, --tls-key: each needs the other, and --tls-client-ca needs both")
    tls = ServerTls(args.tls_cert, args.tls_key, args.tls_client_ca)
    try:
        tls.check()
    except ValueError as error:
        raise ValueError(f"--tls-cert, --tls-key, --tls-client-ca: {error}") from None
    return tls
