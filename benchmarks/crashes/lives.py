"""The lives of one served engine: started, loaded, killed, and started again on the same folder."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np

from auction.audit.verify import verify
from auction.campaigns.access import Role
from benchmarks.crashes.load import Client, Feed, create_campaign, make_tokens, send
from benchmarks.crashes.told import Caps, Held, Told, hold_against_ledger
from benchmarks.serving import Child, NotReady, await_ready, spawn_child, start_child
from benchmarks.transport import CHANNEL_OPTIONS, GrpcTransport
from pacing.ledger.reading import LedgerFile
from protos import campaigns_pb2
from protos.rpc.tls import open_channel

BID_MICROS = 20_000
FLAGS = (
    "--no-rest", "--no-bridge", "--policy", "fixed", "--fixed-bid-micros", str(BID_MICROS), "--calls-per-s", "0",
    # What a dead server had leased is locked until nobody can bill it any more; lives are short here.
    "--win-notice-ms", "1000", "--billing-ms", "2000", "--listen", "127.0.0.1:0",
)  # fmt: skip
CLIENTS = 2
STARTING_SHARE = 1 / 8
"""Of the kills, those while the server starts: half of them anywhere, half in the later part, where it recovers."""
_RECOVERING_FROM = 0.55
_LOADED_S = (0.05, 0.5)
_FIRST_BILL_TIMEOUT_S = 60.0
_LIVES_PER_SMALL = 20
_LARGE = Caps(10**12, 10**13)


@dataclass
class Lives:
    """What one folder's lives came to.

    Attributes:
        restart_s: from the start of a process to ready, of every start that was let come so far.
        problems: what should not have been, in words.
    """

    kills: int = 0
    kills_starting: int = 0
    restart_s: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    statuses: dict[str, int] = field(default_factory=dict)
    used_twice: int = 0
    held: Held = field(default_factory=lambda: Held(0, 0, 0, 0, 0))


def compile_kernels(folder: Path) -> None:
    """Let a server start once, so that no start that is measured compiles what this machine never compiled before.

    One that does not come up is no news from here: those that are measured will not either, and that is told of them.
    """
    with suppress(NotReady):
        start_child("serve", ["serve", "--data", str(folder), *FLAGS], folder).stop()


class Killing:
    """Plays the lives of one folder. One thread."""

    def __init__(self, folder: Path, seed: int, killed: Callable[[], None], stopping: threading.Event) -> None:
        """`killed` is told of every kill; `stopping` ends the play after the present life."""
        self._folder = folder
        self._rng = np.random.default_rng(seed)
        self._killed = killed
        self._stopping = stopping
        self._told = Told()
        self._feed = Feed(self._told, np.random.default_rng(seed + 1))
        self._lives = Lives()
        self._small = 0
        self._tokens = make_tokens(folder)

    def play(self, kills: int) -> Lives:
        """Kill so often, then look at what is there."""
        lives = self._lives
        try:
            while lives.kills < kills and not self._stopping.is_set():
                self._live()
                lives.kills += 1
                self._killed()
            self._end()
        except NotReady as failed:
            lives.problems.append(f"after {lives.kills} kills: {failed}")
        except grpc.RpcError as error:
            lives.problems.append(f"after {lives.kills} kills, a server that was ready: {error}")
        lives.problems += self._feed.strange
        lives.statuses = dict(self._feed.statuses)
        lives.used_twice = self._told.used_twice()
        return lives

    def _spawn(self) -> Child:
        return spawn_child("serve", ["serve", "--data", str(self._folder), *FLAGS], self._folder)

    def _live(self) -> None:
        """One life, from start to kill."""
        lives = self._lives
        is_starting = lives.restart_s and self._rng.random() < STARTING_SHARE
        started_s = time.monotonic()
        child = self._spawn()
        try:
            if is_starting:
                lives.kills_starting += 1
                shares = (_RECOVERING_FROM, 1.0) if self._rng.random() < 0.5 else (0.0, 1.0)
                time.sleep(self._rng.uniform(*shares) * float(np.median(lives.restart_s)))
                return
            await_ready(child)
            lives.restart_s.append(time.monotonic() - started_s)
            self._serve(child, lives.kills)
        finally:
            child.kill()

    def _serve(self, child: Child, life: int) -> None:
        """Load a server that is ready, and kill it in the middle of that."""
        channel = open_channel(str(child.ready["grpc"]), None, CHANNEL_OPTIONS)
        try:
            feed, operator = (GrpcTransport(channel, self._tokens[role]) for role in (Role.FEED, Role.OPERATOR))
            self._open_campaigns(operator, life)
            self._tell_again(feed)
            clients = [Client(self._feed, feed, life) for _ in range(CLIENTS)]
            for client in clients:
                client.start()
            self._await_first_bill()
            time.sleep(self._rng.uniform(*_LOADED_S))
            child.kill()
            for client in clients:
                client.stopping.set()
                client.join()
        finally:
            channel.close()

    def _await_first_bill(self) -> None:
        """Let the first life come as far as an acknowledged impression: what is to be lost must be there."""
        deadline_s = time.monotonic() + _FIRST_BILL_TIMEOUT_S
        while not self._told.billed_micros and time.monotonic() < deadline_s:
            time.sleep(0.01)

    def _tell_again(self, feed: GrpcTransport) -> None:
        """Repeat what the last life left unanswered."""
        for _ in range(len(self._feed.unanswered)):
            send(self._feed, feed, self._feed.unanswered.popleft(), is_again=True)

    def _open_campaigns(self, operator: GrpcTransport, life: int) -> None:
        """One campaign that has money for ever, and beside it, in turn, small ones that come to their end."""
        if not self._told.caps:
            self._create(operator, _LARGE)
        if self._small and life % _LIVES_PER_SMALL:
            return
        if self._small:
            pause = campaigns_pb2.ChangeStatusRequest(campaign_id=self._small)
            operator.call("Campaigns/PauseCampaign", pause, campaigns_pb2.Campaign)
        per_life = self._told.billed_micros // max(1, life)
        total = max(50 * BID_MICROS, per_life * _LIVES_PER_SMALL // 5)
        half = max(50 * BID_MICROS, total // 2)
        self._small = self._create(operator, Caps(half if len(self._told.caps) % 2 else total, total))

    def _create(self, operator: GrpcTransport, caps: Caps) -> int:
        campaign_id = create_campaign(operator, len(self._told.caps) + 1, caps)
        self._told.caps[campaign_id] = caps
        return campaign_id

    def _end(self) -> None:
        """A last life that is not killed; then what was told is held against what is there."""
        child = self._spawn()
        try:
            await_ready(child)
            channel = open_channel(str(child.ready["grpc"]), None, CHANNEL_OPTIONS)
            try:
                self._tell_again(GrpcTransport(channel, self._tokens[Role.FEED]))
            finally:
                channel.close()
        finally:
            child.stop()
        path = self._folder / "ledger.sqlite"
        self._lives.held = hold_against_ledger(self._told, path)
        ledger = LedgerFile(path)
        unjudged = len(ledger.read(ledger.judged_sequence, 1))
        ledger.close()
        if unjudged:
            self._lives.problems.append("rows were left without a verdict")
        difference = verify(self._folder, lambda *_: None).difference
        if difference is not None:
            self._lives.problems.append(f"fanbid ledger verify: {difference}")
