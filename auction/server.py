"""`fanbid serve`: the services behind a gRPC port, with health and reflection, the REST shim as a child process."""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Protocol

from auction.bid.keyring import KEY_FILE
from auction.campaigns.service_handlers import add_campaigns
from auction.campaigns.store import StoreUnavailable
from auction.config import BadSetting, ServeConfig, config_from, configure, unread_variables
from auction.services import Services, build_services
from auction.shared.keys_redis import check_usable
from auction.starting import told
from auction.status import refuse
from auction.warmup import warm_up
from pacing.ledger.errors import LedgerError, LedgerInUse
from pacing.redis_link import RedisLink, RedisUnavailable
from protos import audience_pb2, bidding_pb2, campaigns_pb2
from protos.rpc.health_service import (
    NO_GRANTS_METADATA,
    NO_GRANTS_UNTIL_METADATA,
    Note,
    Status,
    add_health_and_reflection,
)
from protos.rpc.ready_file import remove_ready_file, write_ready_file
from protos.rpc.server import RpcServer

__all__ = ["Attachment", "Server", "build_services", "configure", "main"]

logger = logging.getLogger(__name__)

STOP_GRACE_S = 5.0


class Attachment(Protocol):
    """Something that runs beside the services, such as the bridge to a fan service."""

    def close(self) -> None:
        """Stop it."""


Attach = Callable[[Services], Attachment | None]
"""Starts an attachment to services that are not serving yet, or answers None where the configuration wants none."""


class Server:
    """A gRPC server around `Services`. Made, started and stopped by one thread."""

    def __init__(self, config: ServeConfig, attach: Attach | None = None) -> None:
        """Open the services and bind the port.

        Raises:
            ValueError: the address cannot be bound, or a file or the data folder is of no use.
        """
        self.config = config
        self.services = _open_services(config)
        self._attachment: Attachment | None = None
        self._rest: subprocess.Popen[bytes] | None = None
        self._rest_socket: Path | None = None
        try:
            self._open(attach)
        except BaseException:
            self.services.tell_what_stays()
            self._close()
            raise

    def start(self) -> str | None:
        """Serve: not healthy until the compiled steps are warm. Answers the REST address, or None without one.

        Raises:
            ValueError: the REST shim did not start.
        """
        try:
            return self._start()
        except Exception:
            self.services.tell_what_stays()
            raise

    def _open(self, attach: Attach | None) -> None:
        config = self.config
        self._attachment = attach(self.services) if attach is not None else None
        self._grpc = RpcServer(config.workers, refuse)
        self.services.calls.register(self._grpc)
        add_campaigns(self._grpc, self.services.campaigns, self.services.access)
        self._health = add_health_and_reflection(self._grpc, _service_names(), partial(_grants_note, self.services))
        self.address = self._grpc.bind(config.listen, config.tls)
        if config.tls is not None and not config.no_rest:
            self._rest_socket = Path(tempfile.mkdtemp(prefix="fanbid-")) / "engine.sock"  # a folder for this account
            self._grpc.bind(f"unix:{self._rest_socket}")

    def _start(self) -> str | None:
        self._health.set(Status.NOT_SERVING, ("", *_service_names()))
        self._grpc.start()
        warm_up(self.services)
        self.services.start()
        self._health.set(Status.SERVING, ("", *_service_names()))
        return None if self.config.no_rest else self._start_rest()

    def stop(self) -> None:
        """Stop taking calls, finish those under way, write everything down."""
        self._health.stop_serving()
        if self._rest is not None:
            self._rest.terminate()
            self._rest.wait()
        self._grpc.stop(STOP_GRACE_S)
        self._close()

    def _close(self) -> None:
        """Give up what does not answer calls."""
        if self._rest_socket is not None:
            shutil.rmtree(self._rest_socket.parent, ignore_errors=True)
        if self._attachment is not None:
            self._attachment.close()
        self.services.close()

    def _start_rest(self) -> str:
        ready = self.services.folder / "rest.ready.json"
        ready.unlink(missing_ok=True)
        command = [
            sys.executable, str(Path(__file__).resolve().parent.parent / "fanbid.py"), "rest", "--exit-with-parent",
            "--engine", self.address if self._rest_socket is None else f"unix:{self._rest_socket}",
            "--listen", self.config.rest_listen, "--ready-file", str(ready),
        ]  # fmt: skip
        if self.config.tls is not None:
            command += ["--tls-cert", str(self.config.tls_cert), "--tls-key", str(self.config.tls_key)]
        self._rest = subprocess.Popen(command)
        while not ready.exists():
            if self._rest.poll() is not None:
                raise ValueError(f"--rest-listen {self.config.rest_listen}: the REST shim did not start")
            threading.Event().wait(0.05)
        return str(json.loads(ready.read_text(encoding="utf-8"))["rest"])


def _open_services(config: ServeConfig) -> Services:
    """The services of a configuration.

    Raises:
        BadSetting: the data folder cannot be used; the text says what helps.
        ValueError: a file is of no use.
    """
    try:
        if config.data is not None and not (config.data / KEY_FILE).exists():
            _refuse_before_anything_is_made(config)
        return build_services(config)
    except LedgerInUse:
        reason = "another server has this folder open; stop that one, or name another folder"
        raise BadSetting(f"--data {config.data}: {reason}") from None
    except (LedgerError, StoreUnavailable) as refused:
        help_ = "nothing is repaired by guessing: put back a copy of the whole folder, or name another one"
        raise BadSetting(f"--data {config.data}: {refused}; {help_}") from refused
    except RedisUnavailable as refused:
        raise BadSetting(f"--redis: {refused}") from refused
    except OSError as refused:
        help_ = "must be a folder, there or to be made, in which this account may write"
        raise BadSetting(f"--data {config.data}: {refused}; {help_}") from refused


def _grants_note(services: Services) -> tuple[Note, ...]:
    """What a check of health says about money: nothing, where new leases are granted."""
    refused = services.no_grants()
    if refused is None:
        return ()
    return (NO_GRANTS_METADATA, refused.reason), (NO_GRANTS_UNTIL_METADATA, str(refused.until_ms))


def _refuse_before_anything_is_made(config: ServeConfig) -> None:
    """A start that cannot succeed must leave no folder behind, and above all no owner in a Redis.

    Raises:
        BadSetting: an address is taken, or no address of this machine.
        ValueError, RedisUnavailable: the Redis cannot be used.
    """
    _check_free("--listen", config.listen)
    if not config.no_rest:
        _check_free("--rest-listen", config.rest_listen)
    if config.redis:
        with closing(RedisLink(config.redis)) as link:
            check_usable(link)


def _check_free(flag: str, address: str) -> None:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        socket.create_server((host, int(port)), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except socket.gaierror:
        return  # a name that means no address of this family; whoever binds it will see
    except OSError:
        raise BadSetting(f"{flag} {address}: the address cannot be bound") from None


def _service_names() -> tuple[str, ...]:
    return tuple(
        service.full_name
        for module in (bidding_pb2, campaigns_pb2, audience_pb2)
        for service in module.DESCRIPTOR.services_by_name.values()
    )


def _tell_where_nothing_stays(folder: Path) -> None:
    logger.warning("no --data: all is kept in memory and in %s, and both go away when this server stops", folder)
    logger.warning("a token for it: fanbid token create --role operator --data %s", folder)


def main(args: argparse.Namespace, attach: Attach | None = None) -> int:
    """Serve until interrupted."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for line in unread_variables(os.environ):
        print(f"fanbid serve: warning: {line}", file=sys.stderr)
    config = config_from(args)
    gc.freeze()
    with told("opening what this server keeps"):
        server = Server(config, attach)
    gc.freeze()  # what is there by now stays: garbage collections need not look through it, now or between two bids
    try:
        with told("getting ready to serve"):
            rest_address = server.start()
        logger.info("gRPC on %s, REST and dashboard on %s", server.address, rest_address or "(off)")
        if config.data is None:
            _tell_where_nothing_stays(server.services.folder)
        if config.ready_file is not None:
            write_ready_file(config.ready_file, grpc=server.address, rest=rest_address)
        signal.pause()
    except KeyboardInterrupt:
        logger.info("stopping")
    finally:
        if config.ready_file is not None:
            remove_ready_file(config.ready_file)  # before the port closes: whoever reads it may call
        server.stop()
    return 0
