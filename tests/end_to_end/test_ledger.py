"""Charges of a real server, explained and derived again: while it runs, when it has stopped, and after a forgery."""

from __future__ import annotations

import argparse
import csv
import io
import json
import shutil
import subprocess
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest

from auction.audit import command
from auction.landscape.archive import LANDSCAPES_FOLDER
from benchmarks.serving import RunningServer, start_server
from pacing.facts import AuctionType, OutcomeKind, RowStatus
from protos import bidding_pb2, campaigns_pb2
from tests.auction.bid.engines import a_campaign, a_request, tokens_of
from tests.sources import ROOT

FLAGS = ("--no-rest", "--no-bridge", "--policy", "unpaced", "--unpaced-multiplier-micros", "1000000")
VIEWERS = 50
ROUNDS = 6


def ledger(*arguments: str) -> tuple[int, str]:
    """Exit code and stdout of `fanbid ledger`, run in this process."""
    parser = argparse.ArgumentParser(prog="fanbid ledger")
    command.configure(parser)
    with redirect_stdout(io.StringIO()) as out:
        code = command.main(parser.parse_args(arguments))
    return code, out.getvalue()


def make_campaign(server: RunningServer) -> int:
    """A campaign of a creator of its own, known to bid."""
    request = campaigns_pb2.CreateCampaignRequest(campaign=a_campaign(creator_id=time.monotonic_ns()))
    made = server.transport("operator").call("Campaigns/CreateCampaign", request, campaigns_pb2.Campaign)
    feed, deadline_s = server.transport("feed"), time.monotonic() + 60
    while time.monotonic() < deadline_s:  # it bids within moments
        if made.campaign_id in feed.call("Bidding/Bid", a_request([9_999]), bidding_pb2.BidResponse).campaign_ids:
            return int(made.campaign_id)
        time.sleep(0.05)
    raise AssertionError("the campaign does not bid")


def serve_rounds(server: RunningServer, campaign_id: int) -> int:
    """Auctions of both types for some seconds, so that several landscapes are used; how many impressions were taken."""
    feed, taken, draw = server.transport("feed"), 0, np.random.default_rng(5)
    deadline_s = time.monotonic() + 60
    served = 0
    while served < ROUNDS and time.monotonic() < deadline_s:
        at = AuctionType.FIRST_PRICE if served % 2 else AuctionType.SECOND_PRICE
        ids = [VIEWERS * served + k + 1 for k in range(VIEWERS)]
        told = {
            "viewer_idx": range(VIEWERS),
            "campaign_ids": [campaign_id] * VIEWERS,
            "probabilities": draw.uniform(0.001, 0.2, VIEWERS).tolist(),
        }
        request = a_request(ids, at=at, bidfloor_micros=500, predictions=told)
        answer = feed.call("Bidding/Bid", request, bidding_pb2.BidResponse)
        tokens = tokens_of(answer)
        if not tokens:
            time.sleep(0.05)
            continue
        shown = len(tokens) * 2 // 3
        paid = answer.prices_micros if at == AuctionType.FIRST_PRICE else answer.floors_micros
        report = bidding_pb2.ReportRequest(
            kinds=[OutcomeKind.BILLABLE] * shown + [OutcomeKind.LOSS] * (len(tokens) - shown),
            tokens=b"".join(tokens),
            prices_micros=[*paid[:shown], *[0] * (len(tokens) - shown)],
        )
        statuses = feed.call("Bidding/Report", report, bidding_pb2.ReportResponse).statuses
        assert set(statuses) == {RowStatus.ACCEPTED}
        taken, served = taken + shown, served + 1
        time.sleep(0.2)
    assert served == ROUNDS
    return taken


def summary_of(text: str) -> dict[str, int]:
    """The figures of `verify`'s table."""
    lines = [line.rsplit(maxsplit=1) for line in text.splitlines()[:-1]]
    return {name.strip(): int(figure.replace(",", "")) for name, figure in lines}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, int]:
    """A data folder after two servers, its campaign, and how many impressions were taken; checked while they ran."""
    folder = tmp_path_factory.mktemp("served")
    server = start_server(folder, *FLAGS)
    try:
        campaign_id = make_campaign(server)
        taken = serve_rounds(server, campaign_id)
        code, out = ledger("verify", "--data", str(folder))
        assert code == 0, out
        code, out = ledger("show", str(campaign_id), "--data", str(folder), "--limit", "3")
        assert code == 0 and "second" in out
        server.kill()  # the next one starts from what a crash leaves
    finally:
        server.close()
    server = start_server(folder, *FLAGS)
    try:
        another = make_campaign(server)
        taken += serve_rounds(server, another)
    finally:
        server.close()
    return folder, campaign_id, taken


def test_every_charge_follows_from_its_record(stopped: tuple[Path, int, int]) -> None:
    folder, _, taken = stopped
    code, out = ledger("verify", "--data", str(folder))
    assert code == 0, out
    figures = summary_of(out)
    assert figures["charges"] == figures["impressions"] == figures["bids derived again"] == taken
    assert figures["bids whose landscape is not retained"] == figures["rows behind the last verdict"] == 0
    assert len(list((folder / LANDSCAPES_FOLDER).iterdir())) >= 2, "each start has a file of its own"


def test_what_is_shown_adds_up(stopped: tuple[Path, int, int]) -> None:
    folder, campaign_id, _ = stopped
    code, out = ledger("show", str(campaign_id), "--data", str(folder), "--csv")
    assert code == 0
    lines = list(csv.DictReader(io.StringIO(out)))
    code, out = ledger("show", str(campaign_id), "--data", str(folder), "--json", "--limit", "100000")
    charges = [json.loads(line) for line in out.splitlines()]
    assert [line["ledger row"] for line in lines] == [charge["sequence"] for charge in charges]
    total = sum(charge["amount_micros"] for charge in charges if charge["verdict"] == 1)
    assert charges[-1]["charged_micros"] == total > 0
    for charge in charges:
        assert charge["value_micros"] == charge["alpha_micros"] * charge["probability"]
        assert charge["floor_micros"] <= charge["amount_micros"] <= charge["bid_micros"] <= charge["value_micros"]
        assert charge["shade"] == (charge["bid_micros"] / charge["value_micros"] if charge["at"] == 1 else 0.0)
    assert {charge["at"] for charge in charges} == {1, 2}
    again = ledger("show", str(campaign_id), "--data", str(folder), "--json", "--after", charges[9]["sequence"])[1]
    assert [json.loads(line) for line in again.splitlines()] == charges[10:60]


def test_one_altered_byte_is_the_first_difference(stopped: tuple[Path, int, int], tmp_path: Path) -> None:
    folder, campaign_id, _ = stopped
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    code, out = ledger("show", str(campaign_id), "--data", str(folder), "--json", "--limit", "20")
    sequence = int(json.loads(out.splitlines()[19])["sequence"])
    path = copy / "ledger.sqlite"
    raw = bytearray(path.read_bytes())
    place = raw.find(sequence.to_bytes(8, "little") + bytes([OutcomeKind.BILLABLE, 1]))
    assert place > 0
    raw[place + 8] = OutcomeKind.CLICK
    path.write_bytes(bytes(raw))
    code, out = ledger("verify", "--data", str(copy))
    assert code == 1
    assert out.startswith("first difference: row ") and "is not what was written" in out
    row = int(out.split()[3].rstrip(","))
    assert 1 <= row <= sequence, "the batch that holds it"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [(["verify"], "no ledger.sqlite there"), (["show", "1", "--limit", "0"], "--limit 0: at least 1")],
)
def test_what_cannot_be_done_is_said_in_a_line(tmp_path: Path, arguments: list[str], text: str) -> None:
    command_line = [sys.executable, str(ROOT / "fanbid.py"), "ledger", *arguments, "--data", str(tmp_path)]
    done = subprocess.run(command_line, capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert text in done.stderr
