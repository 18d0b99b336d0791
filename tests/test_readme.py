"""What the READMEs say is so: links lead somewhere, the table lists the flags of `serve`, the examples run."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from auction import config
from benchmarks.serving import RunningServer, running_server
from tests.sources import ROOT

READMES = ("README.md", "README.zh-CN.md")
DOCUMENTS = (*READMES, "ARCHITECTURE.md", "CHANGELOG.md", "SECURITY.md", "benchmarks/README.md")


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def example(readme: str, label: str) -> str:
    """The code block under the comment `runs: label`."""
    found = re.search(rf"<!-- runs: {label} -->\n```\w+\n(.*?)```", text_of(readme), re.DOTALL)
    assert found, f"{readme} has no example {label}"
    return found[1]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_to_files(name: str) -> None:
    folder = (ROOT / name).parent
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", text_of(name))
    assert [target for target in targets if "://" not in target and not (folder / target).exists()] == []


@pytest.mark.parametrize("name", READMES)
def test_the_table_lists_the_flags_of_serve(name: str) -> None:
    parser = argparse.ArgumentParser(add_help=False)
    config.configure(parser)
    flags = {option for action in parser._actions for option in action.option_strings}
    table = text_of(name).partition("<!-- flags of serve -->")[2]
    rows = re.findall(r"^\| `(--[a-z-]+)[^|]*\| `(\w+)` \| ([^|]*?) ?\|", table, re.MULTILINE)
    assert {flag for flag, _, _ in rows} == flags
    defaults = config.ServeConfig()
    for flag, variable, default in rows:
        attribute = flag.removeprefix("--").replace("-", "_")
        assert variable == config.ENVIRONMENT_PREFIX + attribute.upper()
        if re.fullmatch(r"[\x21-\x7e]+", default):
            assert str(getattr(defaults, attribute)) == default


@pytest.mark.parametrize("label", ["creator", "feed", "operator"])
def test_both_languages_show_the_same_examples(label: str) -> None:
    assert example("README.md", label) == example("README.zh-CN.md", label)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("readme")) as server:
        yield server


def adapted(code: str, server: RunningServer) -> str:
    """The example with this server's addresses in place of the default ones."""
    assert server.rest_address is not None
    return code.replace("http://127.0.0.1:7080", server.rest_address).replace("127.0.0.1:7070", server.grpc_address)


def creator_example(server: RunningServer) -> dict[str, object]:
    """Send what the creator's curl commands send, without curl; answer the one campaign that they then list."""
    code = adapted(example("README.md", "creator"), server)
    urls = re.findall(r"curl -s (\S+)", code)
    body = re.search(r"-d '(.*?)'", code, re.DOTALL)
    assert len(urls) == 2 and body
    headers = {"Authorization": f"Bearer {server.token('creator', 17)}", "Content-Type": "application/json"}
    with urlopen(Request(urls[0], body[1].encode(), headers), timeout=30) as answer:
        created = json.load(answer)
    with urlopen(Request(urls[1], headers=headers), timeout=30) as answer:
        listed = json.load(answer)
    assert listed["campaigns"] == [created]
    return created


def test_the_examples_run_in_the_order_of_the_tour(server: RunningServer, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FEED_TOKEN": server.token("feed")}
    assert creator_example(server)["creator_id"] == "17"
    program = tmp_path / "feed.py"
    program.write_text(adapted(example("README.md", "feed"), server), encoding="utf-8")
    deadline_s = time.monotonic() + 60
    while True:  # a new campaign bids from the control loop's next rounds on
        feed = subprocess.run(
            [sys.executable, str(program)], env=environment, capture_output=True, text=True, timeout=60
        )
        if feed.returncode == 0 or time.monotonic() > deadline_s:
            break
    assert feed.returncode == 0, feed.stdout + feed.stderr
    assert re.search(r"^viewer 501: campaign \d+ bids \d+ micros$", feed.stdout, re.MULTILINE), feed.stdout
    assert "viewer 503: NO_BID_REASON_NOT_TARGETED" in feed.stdout
    assert re.search(
        r"^\['ROW_STATUS_ACCEPTED'(, 'ROW_STATUS_ACCEPTED'){2}\] durable up to row \d+$", feed.stdout, re.MULTILINE
    )
    program = tmp_path / "operator.py"
    program.write_text(adapted(example("README.md", "operator"), server), encoding="utf-8")
    environment |= {"FANBID_TOKEN": server.token("operator")}
    told = subprocess.run([sys.executable, str(program)], env=environment, capture_output=True, text=True, timeout=60)
    assert re.search(r"^\d+ viewers are known\n\d+ follows are known$", told.stdout, re.MULTILINE), (
        told.stdout + told.stderr
    )
