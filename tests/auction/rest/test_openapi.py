"""The OpenAPI description against the shim that it describes: every call it allows gets an answer that it foresees."""

from __future__ import annotations

import re

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from auction.campaigns.access import Role
from auction.rest.app import build_app
from fanbid import ROOT
from tests.auction.campaigns.figures import small_engine
from tests.auction.rest.serving import running_shim

CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)
CALLS = sorted(
    (method.upper(), path)
    for path, methods in build_app("127.0.0.1:1").openapi()["paths"].items()
    for method in methods
    if path != "/api/live"  # a stream that does not end; test_rest reads it
)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with small_engine(tmp_path_factory.mktemp("openapi")) as engine, running_shim(engine.address) as address:
        yield address, engine.token(Role.OPERATOR)


@pytest.fixture(scope="module")
def description(served):
    return schemathesis.openapi.from_url(f"{served[0]}/openapi.json")


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_every_answer_is_one_that_the_description_foresees(served, description, method, path):
    address, token = served
    headers = {"Authorization": f"Bearer {token}"}

    operation = description[path][method]

    @settings(max_examples=8, phases=[Phase.generate], suppress_health_check=list(HealthCheck), deadline=None)
    @given(case=operation.as_strategy())
    def every_case(case):
        case.call_and_validate(base_url=address, headers=headers, checks=list(CHECKS))

    every_case()


def test_every_route_is_described_with_its_failures(served):
    description = httpx.get(f"{served[0]}/openapi.json").json()
    paths = description["paths"]
    assert set(paths) == {
        "/healthz",
        "/api/campaigns",
        "/api/campaigns/{campaign_id}",
        "/api/campaigns/{campaign_id}/pause",
        "/api/campaigns/{campaign_id}/resume",
        "/api/campaigns/{campaign_id}/end",
        "/api/campaigns/{campaign_id}/report",
        "/api/campaigns/{campaign_id}/charges",
        "/api/campaigns/{campaign_id}/charges.csv",
        "/api/live",
        "/api/creators/{creator_id}/health",
        "/api/creators/{creator_id}/health.csv",
        "/api/audiences/reach",
        "/api/audiences/creators",
        "/api/audiences/why",
        "/api/audiences/segments",
        "/api/audiences/segments/{segment_id}",
        "/api/audiences/lookalikes",
        "/api/audiences/lookalikes/{segment_id}",
        "/api/audiences/lists/{segment_id}",
    }
    for path, methods in paths.items():
        for operation in methods.values():
            failures = set(operation["responses"]) - {"200", "201", "202"}
            expected = (
                {"503"} if path == "/healthz" else {"400", "401", "403", "404", "409", "413", "422", "429", "503"}
            )
            assert failures == expected
            for status in failures:
                schema = operation["responses"][status]["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/ErrorShape"}


def test_every_reason_for_no_grants_is_described(served):
    schemas = httpx.get(f"{served[0]}/openapi.json").json()["components"]["schemas"]
    reason = schemas["NoGrantsShape"]["properties"]["reason"]
    sources = [path.read_text() for folder in ("auction", "pacing") for path in (ROOT / folder).rglob("*.py")]
    given = {name for source in sources for name in re.findall(r'NoGrants\("(\w+)"', source)}
    assert set(reason["enum"]) == given and len(given) >= 4
    readmes = [(ROOT / name).read_text() for name in ("README.md", "README.zh-CN.md")]
    for name in given:
        assert f"{name}: " in reason["description"]
        assert all(f"| `{name}` | " in readme for readme in readmes)


def test_no_default_lies_outside_its_own_range(served):
    schemas = httpx.get(f"{served[0]}/openapi.json").json()["components"]["schemas"]
    change = schemas["CampaignChange"]["properties"]
    assert {name for name, field in change.items() if "default" in field} == {"version"}
    for shape in schemas.values():
        for name, field in shape.get("properties", {}).items():
            default = field.get("default")
            if isinstance(default, int):
                assert field.get("minimum", default) <= default <= field.get("maximum", default), name
            if isinstance(default, str):
                assert field.get("minLength", 0) <= len(default) <= field.get("maxLength", 10**9), name
