"""Files that a server saved and somebody damaged: what can be learned again is, and what cannot is refused in words."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auction.campaigns.model import BidMode, Campaign, Creative
from auction.campaigns.store import CampaignStore, StoreUnavailable
from auction.config import BadSetting, ServeConfig
from auction.learning import Learner
from auction.predictor.predictor import Predictor
from auction.progress import Progress
from auction.services import build_services
from auction.trust import Trust
from fanbridge.delivery import Delivery
from pacing.clocks import MS_PER_DAY
from pacing.facts import Goal
from pacing.ledger.owners import OWN, Positions

START_MS = 1_800_000_000_000


def campaign_of(creator_id: int) -> Campaign:
    return Campaign(
        creator_id, "x", Goal.FANS, BidMode.AUTOMATIC, 10**7, 10**8, "UTC", (Creative(7001),), start_at_ms=START_MS
    )


def learner_file(folder: Path, **changes: Any) -> Path:
    """What a young learner saves, with some arrays changed; None: left out."""
    path = folder / "learner.npz"
    Learner(Predictor(), capacity=16).save(path, Positions({OWN: 9}))
    with np.load(path) as saved:
        arrays = {**dict(saved), **changes}
    np.savez(path, **{name: values for name, values in arrays.items() if values is not None})
    return path


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"missed": np.zeros(3, np.int64)}, r"missed: int64 \(3,\)"),
        ({"curve1.exposed": None}, r"has no curve1\.exposed"),
        ({"curve1.counted": np.full(40, 7, np.int64)}, "curve1.counted|counted"),
        ({"room.items": np.arange(5)}, "0 instants for 5 entries"),
        ({"room.next_ticket": np.array(-1)}, "next_ticket -1"),
        ({"room.due_ms": np.arange(2), "room.items": np.array([1, -1])}, "an entry is not in"),
        ({"predictor.slots": np.arange(3, dtype=np.uint32)}, "predictor state: "),
        ({"learner_version": np.array("x")}, "not a learner's state"),
    ],
)
def test_a_learner_refuses_what_it_could_not_go_on_with(changes: dict[str, Any], text: str, tmp_path: Path) -> None:
    learner = Learner(Predictor(), capacity=16)
    path = learner_file(tmp_path, **changes)
    with pytest.raises(ValueError, match=text):
        learner.load(path)
    learner.tick(START_MS + MS_PER_DAY)
    assert learner.load(learner_file(tmp_path)) == Positions({OWN: 9})


@pytest.mark.parametrize("damage", [b"", b"PK", b"{}", b"[]", b'{"days": [{}], "position": 3}', b"[" * 50_000])
def test_a_server_starts_over_damaged_followers(damage: bytes, tmp_path: Path) -> None:
    config = ServeConfig(data=tmp_path, virtual_clock=START_MS)
    services = build_services(config)
    services.followers.save()
    services.close()
    saved = [path for path in tmp_path.iterdir() if path.suffix == ".npz" or "progress" in path.name]
    assert len(saved) >= 3, sorted(path.name for path in tmp_path.iterdir())
    for path in saved:
        path.write_bytes(damage)
    build_services(config).close()


@pytest.mark.parametrize(
    "days",
    [[], 3, {"1": 3}, {"1": {}}, {"x": {}}, {"1": {"day_key": float("inf")}}, {"1": {"own_events": "abc"}}],
)
def test_progress_refuses_what_is_no_progress(days: Any) -> None:
    progress = Progress(lambda campaign_id, at_ms: (0, 0), lambda campaign_id: 1)
    with pytest.raises(ValueError, match=r"."):
        progress.restore(json.loads(json.dumps({"days": days, "trust": Trust().state()})))
    for whole in ([], 3, {"days": {}}, {"days": {}, "trust": [1.0]}, {"days": {}, "trust": "x"}):
        with pytest.raises(ValueError, match=r"."):
            progress.restore(whole)
    assert progress.state() == {"days": {}, "trust": Trust().state()}


def test_a_model_of_another_form_is_named_with_its_flag(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    Predictor().save(path)
    with np.load(path) as saved:
        arrays = dict(saved)
    for changes in ({"version": np.zeros(2, np.int64)}, {"goals": np.full(3, 200, np.uint8)}):
        np.savez(path, **{**arrays, **changes})
        with pytest.raises(BadSetting, match=rf"--model {path}: not a predictor state of fanbid; "):
            build_services(ServeConfig(data=None, virtual_clock=START_MS, model=path))


def flipped(path: Path, wanted: bytes, instead: bytes) -> None:
    raw = path.read_bytes()
    assert raw.count(wanted) >= 1
    path.write_bytes(raw.replace(wanted, instead))


def test_damaged_rows_are_told_apart_from_bugs(tmp_path: Path) -> None:
    path = tmp_path / "campaigns.sqlite"
    store = CampaignStore(path)
    store.insert(campaign_of(9))
    token_id = store.add_token(b"h" * 32, "creator", 9, START_MS)
    for change in ("UPDATE tokens SET creator_id = 'x'", "UPDATE campaigns SET targeting = '[3]', creator_id = '9'"):
        with sqlite3.connect(path) as db:
            db.execute(change)
    reads: tuple[Callable[[], object], ...] = (store.tokens, lambda: store.token(token_id), store.all)
    for read in reads:
        with pytest.raises(StoreUnavailable, match=r"a stored (token|campaign) is damaged"):
            read()
    store.close()


def test_a_damaged_schema_is_refused_at_the_door(tmp_path: Path) -> None:
    campaigns, delivery = tmp_path / "campaigns.sqlite", tmp_path / "delivery.sqlite"
    CampaignStore(campaigns).close()
    flipped(campaigns, b"campaign_id INTEGER", b"campaign\xc5id INTEGER")
    with pytest.raises(StoreUnavailable, match=r"campaigns\.sqlite"):
        store = CampaignStore(campaigns)
        store.all()
    Delivery(delivery).close()
    flipped(delivery, b"reason TEXT", b"rexson TEXT")
    with pytest.raises(ValueError, match=r"delivery state .*other names"):
        Delivery(delivery)
