"""A `serve --redis` process whose Redis loses everything, gets it back, fails over: what health and refusals say."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx

from benchmarks.redis_servers import redis_server
from benchmarks.serving import RunningServer, start_server
from tests.end_to_end.test_two_servers import FLAGS, wait_for

CAMPAIGN = {
    "name": "Spring", "creator_id": "7", "goal": "fans", "bid_mode": "automatic", "zone": "Asia/Shanghai",
    "daily_budget_micros": 16_000_000, "total_budget_micros": 160_000_000, "creatives": [{"creative_id": "7001"}],
}  # fmt: skip
SERVING = {"status": "serving"}


def log_of(server: RunningServer) -> str:
    return server.child.log_path.read_text(encoding="utf-8")


def test_health_and_refusals_say_what_is_wrong_with_redis(tmp_path: Path) -> None:
    with redis_server() as redis:
        server = start_server(tmp_path / "a", *FLAGS, "--redis", redis.url)
        try:
            with httpx.Client(
                base_url=server.rest_address, headers={"Authorization": f"Bearer {server.token('operator')}"}
            ) as client:

                def health() -> Any:
                    answer = client.get("/healthz")
                    assert answer.status_code == 200
                    return answer.json()

                def reason() -> Any:
                    return health().get("no_grants", {}).get("reason")

                wait_for(lambda: health() == SERVING, "health")
                made = client.post("/api/campaigns", json=CAMPAIGN)
                assert made.status_code == 201, made.text
                held = {key: redis.ask("DUMP", key) for key in redis.ask("KEYS", "*")}
                redis.kill()
                redis.start()  # it kept nothing
                foreign = {"reason": "foreign", "until_ms": 0}
                wait_for(lambda: health() == SERVING | {"no_grants": foreign}, "the loss to be noticed")
                refused = client.post("/api/campaigns", json=CAMPAIGN)
                assert refused.status_code == 503
                message = refused.json()["error"]["message"]
                assert "has lost what it held, or is another one" in message and "no campaign was made" in message
                for line in ("ERROR auction.shared.deployment: ", "budget store away"):
                    wait_for(lambda line=line: line in log_of(server), "the log to say so")
                for key in sorted(held, key=b"fanbid:deployment".__eq__):  # that one last
                    redis.ask("RESTORE", key, 0, held[key], "REPLACE")
                wait_for(lambda: reason() == "failover", "its content, and that another master has it, to be noticed")
                told = health()["no_grants"]
                assert 200_000 < told["until_ms"] - time.time() * 1_000 < 300_000
                made = client.post("/api/campaigns", json=CAMPAIGN | {"creator_id": "8"})
                assert made.status_code == 201, made.text
            log = log_of(server)
            for line in ("ERROR auction.shared.deployment: ", "budget store back", "no grants until"):
                assert log.count(line) == 1, log
        finally:
            server.close()
