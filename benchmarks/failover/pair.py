"""A Redis with a replica behind one address, as an operator's failover leaves it: the replica lacks the last writes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.redis_servers import RedisServer, wait_until

_CHUNK_BYTES = 2**16
_SYNC_S = 20.0


class Address:
    """A port of 127.0.0.1 that leads to whatever server is named last. Connections end when that changes."""

    def __init__(self) -> None:
        """Take a free port, on a thread of its own."""
        self.port = 0
        self._target_port = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        is_open = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(is_open,), name="address", daemon=True)
        self._thread.start()
        is_open.wait()

    @property
    def url(self) -> str:
        """As clients take it."""
        return f"redis://127.0.0.1:{self.port}"

    def lead_to(self, port: int) -> None:
        """Send every connection to this port of 127.0.0.1 from now on; 0: nowhere."""
        self._target_port = port
        self._loop.call_soon_threadsafe(self._cut)

    def close(self) -> None:
        """Give the port up."""
        self._loop.call_soon_threadsafe(self._cut)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _serve(self, is_open: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._join, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        is_open.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    def _cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        self._writers -= {writer, far_writer}


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(_CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
    except (OSError, asyncio.CancelledError):
        pass
    writer.transport.abort()


class RedisPair:
    """A primary, a replica and the address that clients use."""

    def __init__(self, primary: RedisServer, replica: RedisServer, address: Address) -> None:
        self.primary, self.replica, self.address = primary, replica, address
        self._follow()
        address.lead_to(primary.port)

    def _follow(self) -> None:
        self.replica.ask("REPLICAOF", "127.0.0.1", self.primary.port)

    def wait_in_step(self) -> None:
        """Until the replica follows the primary.

        Raises:
            TimeoutError: it does not.
        """
        wait_until(
            lambda: self.replica.ask("INFO", "replication").get("master_link_status") == "up", "replication", _SYNC_S
        )
        self.primary.ask("WAIT", 1, 1_000)

    def cut_replication(self) -> None:
        """Promote the replica while clients go on writing to the primary: all of that will be lost."""
        self.replica.ask("REPLICAOF", "NO", "ONE")

    def fail_over(self) -> None:
        """Kill the primary, let the replica take its place, and start a new replica beside it."""
        self.primary.kill()
        self.primary, self.replica = self.replica, self.primary
        self.address.lead_to(self.primary.port)
        self.replica.start()
        self._follow()


@contextmanager
def redis_pair() -> Iterator[RedisPair]:
    """A pair of one's own, gone afterwards."""
    with TemporaryDirectory(prefix="fanbid-redis-") as folder, ExitStack() as ending:
        address = Address()
        ending.callback(address.close)
        servers = []
        for number in range(2):
            server = RedisServer(Path(folder) / str(number), "--repl-diskless-sync-delay", "0")
            ending.callback(server.kill)
            servers.append(server)
        yield RedisPair(servers[0], servers[1], address)
