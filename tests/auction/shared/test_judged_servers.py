"""Servers of one Redis in this process: what one of them judges is in the statements, reports, attribution, learning
and audiences of all, once."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fanbid
from auction import owners_command
from auction.bid.keyring import KEY_FILE
from auction.campaigns.access import Role
from auction.status import Refused
from benchmarks.redis_servers import RedisServer, redis_server
from pacing.facts import OutcomeKind, RowStatus, Verdict
from pacing.ledger.owners import qualified
from pacing.money import text_from_micros
from protos import campaigns_pb2
from targeting.expressions import fans_segment
from tests.auction.bid.engines import NOON_MS, Engine, tokens_of

CREATOR_ID = 7


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


class Servers:
    """Two servers of one Redis, which sign with the same keys and have the same campaign."""

    def __init__(self, url: str, folder: Path, **settings: Any) -> None:
        self._folder, self._settings = folder, {"redis": url} | settings
        self.engines: list[Engine] = []
        for number in range(2):
            self.add(number)
        self.campaign_id = self.engines[0].create(creator_id=CREATOR_ID).campaign_id
        self.bring(1, self.campaign_id)

    def add(self, number: int) -> Engine:
        folder = self._folder / str(number)
        folder.mkdir()
        if number:
            shutil.copyfile(self._folder / "0" / KEY_FILE, folder / KEY_FILE)
        self.engines.append(self.open(number))
        return self.engines[-1]

    def bring(self, number: int, campaign_id: int) -> None:
        """Let a server know a campaign that the first one made: from the others, or made there in the same way."""
        engine = self.engines[number]
        assert engine.services.membership is not None
        engine.services.membership.catch_up()
        engine.go_round()

    def open(self, number: int) -> Engine:
        now_ms = self.engines[0].now_ms if self.engines else NOON_MS
        return Engine(self._folder / str(number), start_at_ms=now_ms, **self._settings)

    def start_again(self, number: int) -> None:
        """What a crash leaves, and a new process on it."""
        engine = self.engines[number]
        assert engine.services.journal is not None and engine.services.peers is not None
        for part in (engine.services.peers, engine.services.ledger, engine.services.store, engine.services.journal):
            part.close()
        self.engines[number] = self.open(number)

    def meet(self) -> None:
        """Rounds of judging and exchanging until everybody has everything."""
        for _ in range(4):
            for engine in self.engines:
                engine.go_round()
                peers = engine.services.peers
                assert peers is not None
                peers._origins_at_ms = None
                peers.step()

    def sell(self, number: int, viewer_ids: range, price_micros: int = 1_000) -> list[bytes]:
        """Bids of one server, all billed; their tokens."""
        engine = self.engines[number]
        tokens = tokens_of(engine.bid(viewer_ids))
        assert len(tokens) == len(viewer_ids)
        answer = engine.report([OutcomeKind.BILLABLE] * len(tokens), tokens, prices_micros=[price_micros] * len(tokens))
        assert set(answer.statuses) == {RowStatus.ACCEPTED}
        return tokens

    def statement(self, number: int, limit: int = 3, **request: Any) -> list[campaigns_pb2.ListChargesResponse]:
        """All pages, as the list was when the first one was read."""
        engine = self.engines[number]
        asked = campaigns_pb2.ListChargesRequest(campaign_id=self.campaign_id, limit=limit, **request)
        pages = []
        while True:
            answer = campaigns_pb2.ListChargesResponse
            pages.append(engine.call("Campaigns/ListCharges", asked, answer, Role.OPERATOR))
            if not pages[-1].next_after:
                return pages
            asked.after, asked.ledger_sequence = pages[-1].next_after, pages[0].ledger_sequence

    def follow_verdicts(self, number: int) -> list[int]:
        """What one server said about the follows that were reported to it."""
        rows, judgements = self.engines[number].services.ledger.read_judged(0, 10**6)
        return judgements["verdict"][rows["kind"] == OutcomeKind.FOLLOW].tolist()

    def figures(self, number: int) -> campaigns_pb2.CampaignReport:
        """A server's report, without what is its own: its bids, its plan, its row of the ledger."""
        report = self.engines[number].campaign_report(self.campaign_id)
        for figures in (report.total, report.today, *(hour.figures for hour in report.hours)):
            figures.ClearField("bids")
            figures.ClearField("planned_spend_micros")
        for name in ("ledger_sequence", "true_at", "at_ms", "multiplier_micros"):
            report.ClearField(name)
        return report


@pytest.fixture
def servers(redis: RedisServer, tmp_path: Path) -> Iterator[Servers]:
    redis.ask("FLUSHALL")
    servers = Servers(redis.url, tmp_path)
    yield servers
    for engine in servers.engines:
        engine.close()


def charges_of(pages: list[campaigns_pb2.ListChargesResponse]) -> list[campaigns_pb2.Charge]:
    return [charge for page in pages for charge in page.charges]


def test_statements_and_reports_are_whole_and_equal(servers: Servers) -> None:
    servers.sell(0, range(1, 11), 1_000)
    servers.meet()
    servers.sell(1, range(101, 106), 2_000)
    servers.sell(0, range(11, 14), 1_500)
    servers.meet()
    lists = [charges_of(servers.statement(number)) for number in (0, 1)]
    names = [{(charge.sequence, charge.viewer_id, charge.amount_micros) for charge in charges} for charges in lists]
    assert len(names[0]) == 18
    assert names[0] == names[1]
    owners = sorted({sequence >> 48 for sequence, _, _ in names[0]})
    assert owners == [
        engine.services.membership.owner.owner_id for engine in servers.engines if engine.services.membership
    ]
    for number, charges in enumerate(lists):
        assert [charge.charged_micros for charge in charges] == list(
            np.cumsum([charge.amount_micros for charge in charges])
        )
        assert {page.charged_micros for page in servers.statement(number)} == {24_500}
    assert servers.figures(0) == servers.figures(1)
    assert servers.figures(0).total.impressions == 18
    assert servers.figures(0).today.spend_micros == 24_500
    for engine in servers.engines:
        report = engine.campaign_report(servers.campaign_id)
        assert [sequence >> 48 for sequence in report.true_at] == owners
        own = qualified(engine.services.membership.owner.owner_id, report.ledger_sequence)
        assert own in report.true_at
        mine = charges_of(servers.statement(servers.engines.index(engine)))
        assert all(any(c.sequence >> 48 == at >> 48 and c.sequence <= at for at in report.true_at) for c in mine)


def test_ledger_show_lists_what_the_server_lists(servers: Servers, capsys: pytest.CaptureFixture[str]) -> None:
    servers.sell(0, range(1, 8), 1_000)
    servers.meet()
    servers.sell(1, range(101, 106), 2_000)
    servers.meet()
    for number, engine in enumerate(servers.engines):
        show = ["ledger", "show", str(servers.campaign_id), "--data", str(engine.services.folder)]
        listed = charges_of(servers.statement(number))
        assert fanbid.main([*show, "--csv"]) == 0
        lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
        names = [f"{charge.sequence >> 48}#{charge.sequence & 2**48 - 1}" for charge in listed]
        assert [line["ledger row"] for line in lines] == names
        assert [line["charged so far"] for line in lines] == [text_from_micros(c.charged_micros) for c in listed]
        assert fanbid.main([*show, "--json", "--limit", "5"]) == 0
        assert [json.loads(line)["sequence"] for line in capsys.readouterr().out.splitlines()] == names[:5]
        assert fanbid.main([*show, "--limit", "5"]) == 0
        *_, more, last = capsys.readouterr().out.splitlines()
        assert more.startswith("more: --after ")
        highest = {name.partition("#")[0]: name for name in sorted(names, key=lambda name: int(name.split("#")[1]))}
        rows = ", ".join(highest[owner] for owner in sorted(highest))
        assert last.startswith("charged 0.017 in all, over-delivered 0.00, ")
        assert last.endswith(f", as far as this server knew: up to rows {rows} of the ledgers")
        assert fanbid.main([*show, "--after", more.split()[-1]]) == 0
        assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:-1]] == names[5:]


def test_a_list_that_is_being_read_does_not_move(servers: Servers) -> None:
    servers.sell(0, range(1, 6))
    servers.sell(1, range(101, 106))
    servers.meet()
    first = servers.statement(1, limit=4)[0]
    before = charges_of(servers.statement(1))
    servers.sell(0, range(6, 9))
    servers.sell(1, range(106, 109))
    servers.meet()
    then = servers.statement(1, after=first.next_after, ledger_sequence=first.ledger_sequence)
    assert [*first.charges, *charges_of(then)] == before
    assert {page.charged_micros for page in then} == {first.charged_micros} == {10_000}
    # Without a place in time the rest comes too, each charge once.
    now = servers.statement(1, after=first.next_after)
    everything = [charge.sequence for charge in (*first.charges, *charges_of(now))]
    assert len(everything) == len(set(everything)) == 16
    with pytest.raises(Refused, match=r"after \d+: a place in the list of server 2; this is server 1"):
        servers.statement(0, after=first.next_after)
    with pytest.raises(Refused, match=r"ledger_sequence \d+: a place in the list of server 2"):
        servers.statement(0, ledger_sequence=first.ledger_sequence)


def test_a_follow_is_attributed_to_what_another_server_billed(servers: Servers) -> None:
    here, there = servers.engines
    tokens = servers.sell(0, range(1, 4))
    servers.meet()
    there.jump(5_000)
    here.jump(5_000)
    assert there.report([OutcomeKind.CLICK], tokens[:1]).statuses == [RowStatus.ACCEPTED]
    followed = there.report(
        [OutcomeKind.FOLLOW, OutcomeKind.FOLLOW], viewer_ids=[1, 50], creator_ids=[CREATOR_ID, CREATOR_ID]
    )
    assert set(followed.statuses) == {RowStatus.ACCEPTED}
    servers.meet()
    assert servers.follow_verdicts(1) == [Verdict.ATTRIBUTED, Verdict.ORGANIC]
    # The pair was counted there, so it does not count here, nor after a restart.
    servers.start_again(0)
    here = servers.engines[0]
    here.jump(10_000)
    assert here.report([OutcomeKind.FOLLOW], viewer_ids=[1], creator_ids=[CREATOR_ID]).statuses == [RowStatus.ACCEPTED]
    assert here.report([OutcomeKind.CLICK], tokens[:1]).statuses == [RowStatus.ACCEPTED]
    servers.meet()
    assert servers.follow_verdicts(0) == [Verdict.REPEAT]
    for number in (0, 1):
        total = servers.figures(number).total
        assert (total.fans, total.clicks, total.impressions) == (1, 1, 3)
    # Nobody bids for a fresh fan again, at any server.
    for engine in servers.engines:
        viewers, segments = engine.services.viewers, engine.services.segments
        rows = np.array(segments.members(fans_segment(CREATOR_ID)).to_array(), np.int64)
        assert sorted(viewers.ids[rows].tolist()) == [1, 50]


def test_an_unfollow_reaches_the_follow_that_another_server_counted(servers: Servers) -> None:
    servers.sell(0, range(1, 3))
    servers.meet()
    here, there = servers.engines
    here.report([OutcomeKind.FOLLOW], viewer_ids=[1], creator_ids=[CREATOR_ID])
    servers.meet()
    there.jump(1_000)
    there.report([OutcomeKind.UNFOLLOW], viewer_ids=[1], creator_ids=[CREATOR_ID])
    servers.meet()
    for number in (0, 1):
        assert (servers.figures(number).total.fans, servers.figures(number).total.unfollows) == (1, 1)
        segment = servers.engines[number].services.segments.members(fans_segment(CREATOR_ID))
        assert len(segment) == 0


def test_restarts_and_new_servers_count_nothing_twice(servers: Servers) -> None:
    servers.sell(0, range(1, 9))
    servers.sell(1, range(101, 105))
    servers.meet()
    servers.engines[0].services.save()
    servers.sell(1, range(105, 109))
    servers.sell(0, range(9, 11))
    servers.meet()
    before = servers.figures(0)
    expected = [engine.services.learner._room.state()["next_ticket"] for engine in servers.engines]
    assert expected == [18, 18]
    for number in (0, 1):
        servers.start_again(number)
    servers.add(2)
    servers.bring(2, servers.campaign_id)
    servers.meet()
    for number in (0, 1, 2):
        assert servers.figures(number) == before
        assert len(charges_of(servers.statement(number))) == 18
        assert servers.engines[number].services.learner._room.state()["next_ticket"] == 18
    progress = [engine.services.progress.state()["days"][str(servers.campaign_id)] for engine in servers.engines]
    assert progress[0]["caller_events"] == progress[1]["caller_events"] == progress[2]["caller_events"]
    sums = [float(np.sum(state["own_events"])) for state in progress]
    assert sums[0] > 0
    assert sums == pytest.approx([sums[0]] * 3)


def test_rows_of_a_campaign_that_is_not_here_yet_wait_for_it(servers: Servers, redis: RedisServer) -> None:
    other = servers.engines[0].create(creator_id=8, name="Only here, for now")
    servers.engines[0].services.campaigns.handle(
        "PauseCampaign",
        campaigns_pb2.ChangeStatusRequest(campaign_id=servers.campaign_id).SerializeToString(),
        servers.engines[0].services.access.authenticate(
            (("authorization", f"Bearer {servers.engines[0].token(Role.OPERATOR)}"),)
        ),
    )
    servers.engines[0].go_round()
    servers.sell(0, range(1, 4))
    servers.meet()
    there = servers.engines[1]
    assert there.services.followers.take_peers() == 0
    servers.bring(1, other.campaign_id)
    servers.meet()
    assert there.campaign_report(other.campaign_id).total.impressions == 3


def test_a_copy_that_is_damaged_does_not_stop_judging_here(servers: Servers, caplog: pytest.LogCaptureFixture) -> None:
    servers.sell(0, range(1, 4))
    servers.engines[0].go_round()
    there = servers.engines[1].services
    assert there.peers is not None
    for engine in reversed(servers.engines):
        for _ in range(2):
            assert engine.services.peers is not None
            engine.services.peers.step()
    there.peers.step()
    (origin_id,) = there.peers.origins()
    copy = there.peers._copies.of(origin_id)
    assert copy.judged_sequence > 0
    copy._db.execute("UPDATE batches SET body = zeroblob(length(body)) WHERE length(body) > 0")
    servers.sell(1, range(101, 104))
    servers.engines[1].go_round()
    servers.engines[1].go_round()
    assert servers.figures(1).total.impressions == 3
    assert len([record for record in caplog.records if f"owner-{origin_id}.sqlite" in record.message]) == 1


def test_an_impression_told_to_two_servers_is_no_difference_to_verify(servers: Servers) -> None:
    tokens = servers.sell(0, range(1, 4), 1_000)
    servers.engines[0].go_round()
    told = [OutcomeKind.BILLABLE] * len(tokens)
    servers.engines[1].report(told, tokens, prices_micros=[1_000] * len(tokens))
    servers.meet()
    rows, judgements = servers.engines[1].services.ledger.read_judged(0, 1_000)
    verdicts = judgements["verdict"][rows["kind"] == OutcomeKind.BILLABLE]
    assert verdicts.tolist() == [Verdict.DUPLICATE] * len(tokens)
    for number, engine in enumerate(servers.engines[:2]):
        engine.services.save()
        assert fanbid.main(["ledger", "verify", "--data", str(engine.services.folder)]) == 0, number


def test_a_new_server_is_told_what_a_retired_one_judged(
    servers: Servers, redis: RedisServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owners_command, "_HAND_OVER_S", 0.2)
    servers.sell(0, range(1, 11), 1_000)
    servers.sell(1, range(101, 104), 2_000)
    servers.meet()
    servers.sell(1, range(104, 106), 2_000)
    servers.engines[1].go_round()
    folder = servers.engines[1].services.folder
    owner_ids = [engine.services.membership.owner.owner_id for engine in servers.engines if engine.services.membership]
    servers.engines.pop(1).close()
    retire = ["owners", "retire", "--redis", redis.url, "--data", str(folder)]
    # Nobody takes its last rows, as the other server is not at work: it must not leave, or they are nowhere.
    assert fanbid.main(retire) == fanbid.EXIT_BAD_INPUT
    assert f"row {owner_ids[1]}#" in capsys.readouterr().err
    stays = servers.engines[0].services
    assert stays.peers is not None
    stays.peers.start()
    assert fanbid.main(retire) == 0
    assert f"owner {owner_ids[1]} has settled all" in capsys.readouterr().out
    shutil.rmtree(folder)
    for key in redis.ask("KEYS", "*judged:*rows*"):
        redis.ask("DEL", key)
    stays.peers._stopping.set()
    assert stays.peers._thread is not None
    stays.peers._thread.join()
    servers.engines[0].jump(20_000)  # the one that left is not heard of
    servers.add(2)
    servers.bring(1, servers.campaign_id)
    servers.meet()
    lists = [charges_of(servers.statement(number)) for number in (0, 1)]
    names = [{(charge.sequence, charge.viewer_id, charge.amount_micros) for charge in charges} for charges in lists]
    assert len(names[0]) == 15 and names[0] == names[1]
    assert {sequence >> 48 for sequence, _, _ in names[0]} == set(owner_ids)
    assert servers.figures(0) == servers.figures(1)
    assert servers.figures(1).total.impressions == 15


def test_the_last_server_that_has_rows_of_a_retired_one_does_not_leave_unasked(
    servers: Servers, redis: RedisServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owners_command, "_HAND_OVER_S", 0.2)
    servers.sell(0, range(1, 4))
    servers.meet()
    servers.add(2)
    first, second = (engine.services.folder for engine in servers.engines[:2])
    for engine in servers.engines:
        engine.close()
    servers.engines.clear()
    retire = ["owners", "retire", "--redis", redis.url, "--data"]
    assert fanbid.main([*retire, str(first)]) == 0
    capsys.readouterr()
    assert fanbid.main([*retire, str(second)]) == fanbid.EXIT_BAD_INPUT
    told = capsys.readouterr().err
    assert re.search(r"row 1#\d+ and what follows is at no other server; .* nothing is retired", told), told
    assert fanbid.main(["owners", "list", "--redis", redis.url]) == 0
    assert str(second) in capsys.readouterr().out
    assert fanbid.main([*retire, str(second), "--lost"]) == 0
    assert re.search(r"row 1#\d+ and what follows is in no other server's statements", capsys.readouterr().out)
