"""The shim as a program: where it listens, when it says that it is ready, and that it does not outlive its parent."""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from auction.rest import app

ROOT = Path(__file__).parents[3]
START = (
    "import argparse, sys; from auction.rest import app; p = argparse.ArgumentParser(); app.configure(p);"
    "sys.exit(app.main(p.parse_args(sys.argv[1:])))"
)
WAIT_S = 30


def wait_for(condition):
    deadline = time.monotonic() + WAIT_S
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def read_ready(path):
    return wait_for(lambda: json.loads(path.read_text()) if path.exists() else None)


def answers(address):
    try:
        return httpx.get(f"{address}/").status_code == 200
    except httpx.TransportError:
        return False


def test_it_says_where_it_serves_and_stops_when_told(tmp_path):
    ready = tmp_path / "ready.json"
    command = [sys.executable, "-c", START, "--engine", "127.0.0.1:9", "--listen", "127.0.0.1:0", "--ready-file", ready]
    with subprocess.Popen(command, cwd=ROOT) as shim:
        told = read_ready(ready)
        assert told["pid"] == shim.pid
        assert answers(told["rest"])
        shim.send_signal(signal.SIGTERM)
        shim.wait(WAIT_S)
    assert not answers(told["rest"])
    assert not ready.exists()


def test_it_ends_when_its_parent_is_gone(tmp_path):
    ready = tmp_path / "ready.json"
    parent = (
        "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', sys.argv[1], '--engine', '127.0.0.1:9',"
        "'--listen', '127.0.0.1:0', '--exit-with-parent', '--ready-file', sys.argv[2]]); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", parent, START, ready], cwd=ROOT) as starter:
        told = read_ready(ready)
        assert answers(told["rest"])
        os.kill(starter.pid, signal.SIGKILL)
        starter.wait(WAIT_S)
    wait_for(lambda: not answers(told["rest"]))


@pytest.mark.parametrize(
    "address", ["", "8080", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:65536", "127.0.0.1:-1", "no.such.host.invalid:0"]
)
def test_an_address_that_is_none_is_refused_in_words(address, capsys):
    parser = argparse.ArgumentParser()
    app.configure(parser)
    assert app.main(parser.parse_args(["--engine", "127.0.0.1:9", f"--listen={address}"])) == 1
    assert f"--listen {address}" in capsys.readouterr().err


def test_a_port_that_is_taken_is_refused_in_words(capsys):
    parser = argparse.ArgumentParser()
    app.configure(parser)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert app.main(parser.parse_args(["--engine", "127.0.0.1:9", f"--listen={address}"])) == 1
    assert address in capsys.readouterr().err
