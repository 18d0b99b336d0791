"""The file by which a program says that it serves."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from protos.rpc.ready_file import clear_ready_file, remove_ready_file, write_ready_file


def test_a_stale_file_is_cleared_and_one_that_is_none_refused(tmp_path: Path) -> None:
    path = tmp_path / "ready.json"
    clear_ready_file(str(path))
    path.write_text("stale")
    clear_ready_file(str(path))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="no plain file"):
        clear_ready_file("/dev/null")
    assert os.path.exists("/dev/null")


def test_a_ready_file_of_another_server_stays(tmp_path: Path) -> None:
    path = tmp_path / "ready.json"
    remove_ready_file(path)
    for foreign in ('{"grpc": "127.0.0.1:1", "rest": null, "pid": 1}', "{}", "[]", "7", "notes"):
        path.write_text(foreign)
        remove_ready_file(path)
        assert path.read_text() == foreign
    write_ready_file(path, grpc="127.0.0.1:2", rest=None)
    assert json.loads(path.read_text()) == {"grpc": "127.0.0.1:2", "rest": None, "pid": os.getpid()}
    remove_ready_file(path)
    assert not path.exists()
