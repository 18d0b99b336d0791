"""A real server for benchmarks and tests: `fanbid serve` in a process of its own, with tokens to call it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from auction.campaigns.access import Access
from auction.campaigns.store import CampaignStore
from auction.campaigns.token_command import STORE_FILE
from benchmarks.transport import CHANNEL_OPTIONS, Clients, GrpcTransport
from protos.rpc.tls import ClientTls, open_channel

ROOT = Path(__file__).resolve().parent.parent
READY_TIMEOUT_S = 300.0
STOP_TIMEOUT_S = 20.0
LOG_TAIL_CHARACTERS = 4_000


class NotReady(RuntimeError):
    """A program ended, or took too long, before it said that it is ready; the text ends with its log."""


@dataclass
class Child:
    """A program of this project that was started here.

    Attributes:
        ready_path: what it writes when it is ready.
        ready: what it wrote there.
        log_path: its stdout and stderr.
    """

    name: str
    process_handle: subprocess.Popen[bytes]
    log_path: Path
    ready_path: Path
    ready: dict[str, str | int | None] = field(default_factory=dict)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process_handle.pid

    def log_tail(self) -> str:
        """The end of its log."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")[-LOG_TAIL_CHARACTERS:]

    def stop(self) -> None:
        """Ask it to end; insist after a while."""
        if self.process_handle.poll() is None:
            self.process_handle.send_signal(signal.SIGTERM)
            try:
                self.process_handle.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self.process_handle.kill()
        self.process_handle.wait()


def spawn_child(name: str, arguments: list[str], work_dir: Path) -> Child:
    """Start `python fanbid.py ARGUMENTS --ready-file ...` without waiting."""
    work_dir.mkdir(parents=True, exist_ok=True)
    ready_path, log_path = work_dir / f"{name}.ready.json", work_dir / f"{name}.log"
    ready_path.unlink(missing_ok=True)
    command = [sys.executable, str(ROOT / "fanbid.py"), *arguments, "--ready-file", str(ready_path)]
    with log_path.open("ab") as log:
        return Child(name, _spawn(command, log), log_path, ready_path)


def await_ready(child: Child, timeout_s: float = READY_TIMEOUT_S) -> None:
    """Wait until a child is ready, and read what it wrote then.

    Raises:
        NotReady: it ended or took longer than `timeout_s`; it is stopped.
    """
    deadline_s = time.monotonic() + timeout_s
    while not child.ready_path.exists():
        ended = child.process_handle.poll() is not None
        if ended or time.monotonic() > deadline_s:
            child.stop()
            code = child.process_handle.returncode
            reason = f"ended with code {code}" if ended else f"not ready in {timeout_s:.0f} s"
            raise NotReady(f"fanbid {child.name}: {reason}\n{child.log_tail()}")
        time.sleep(0.02)
    child.ready = json.loads(child.ready_path.read_text(encoding="utf-8"))


def start_child(name: str, arguments: list[str], work_dir: Path, timeout_s: float = READY_TIMEOUT_S) -> Child:
    """Start `python fanbid.py ARGUMENTS --ready-file ...` and wait until it is ready.

    Raises:
        NotReady: it ended or took longer than `timeout_s`.
    """
    child = spawn_child(name, arguments, work_dir)
    await_ready(child, timeout_s)
    return child


def _spawn(command: list[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    # In a session of its own, so that Ctrl-C reaches this program first, which then stops its children in order.
    # What was exported for a server of one's own must not make this one ask its callers for certificates.
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("FANBID_TLS_")}
    environment = {**inherited, "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT, env=environment, start_new_session=True)


class RunningServer:
    """A served engine: its addresses, a channel, and tokens by role. Only its starter may call `kill` and `close`."""

    def __init__(self, child: Child, data_dir: Path, tls: ClientTls | None = None) -> None:
        self.child = child
        self.data_dir = data_dir
        self.grpc_address = str(child.ready["grpc"])
        rest = child.ready.get("rest")
        self.rest_address = None if rest is None else str(rest)
        self.channel = open_channel(self.grpc_address, tls, CHANNEL_OPTIONS)
        self._store = CampaignStore(data_dir / STORE_FILE)
        self._access = Access(self._store)
        self._tokens: dict[tuple[str, int], str] = {}

    def token(self, role: str, creator_id: int = 0) -> str:
        """A bearer token of this role (feed, creator, operator), the same at every call."""
        key = (role, creator_id)
        if key not in self._tokens:
            self._tokens[key] = self._access.create_token(role, creator_id, time.time_ns() // 1_000_000)
        return self._tokens[key]

    def transport(self, role: str, creator_id: int = 0) -> GrpcTransport:
        """Calls over this server's channel as the bearer of a role's token."""
        return GrpcTransport(self.channel, self.token(role, creator_id))

    def clients(self) -> Clients:
        """Calls as a feed server and as an operator."""
        return Clients(feed=self.transport("feed"), operator=self.transport("operator"))

    def kill(self) -> None:
        """End the server at once, as a crash would."""
        self.child.kill()

    def close(self) -> None:
        """Stop the server and give up the channel."""
        self.channel.close()
        self._store.close()
        self.child.stop()


def start_server(
    data_dir: Path, *flags: str, timeout_s: float = READY_TIMEOUT_S, tls: ClientTls | None = None
) -> RunningServer:
    """Start `fanbid serve` on free ports with these flags; whoever starts it closes it.

    Raises:
        NotReady: it did not come up; the text ends with its log.
    """
    arguments = ["serve", "--data", str(data_dir), *flags]
    if "--listen" not in flags:
        arguments += ["--listen", "127.0.0.1:0"]
    if "--no-rest" not in flags and "--rest-listen" not in flags:
        arguments += ["--rest-listen", "127.0.0.1:0"]
    return RunningServer(start_child("serve", arguments, data_dir, timeout_s), data_dir, tls)


@contextmanager
def running_server(data_dir: Path, *flags: str, tls: ClientTls | None = None) -> Iterator[RunningServer]:
    """A server that lives as long as the `with` block; a second one on the same folder continues where it ended."""
    server = start_server(data_dir, *flags, tls=tls)
    try:
        yield server
    finally:
        server.close()
