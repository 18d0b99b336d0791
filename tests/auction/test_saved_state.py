"""Saved state comes back as it was, or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from auction.saved_state import read_state, write_state


def test_arrays_come_back_as_they_were(tmp_path: Path) -> None:
    state = {
        "rows": np.arange(12, dtype=np.uint64).reshape(4, 3)[:, ::-1],
        "none": np.zeros((0, 5), np.uint64),
        "at_ms": np.array(-7),
        "flags": np.array([True, False, True]),
    }
    write_state(tmp_path / "x.state", "test 1", state)
    again = read_state(tmp_path / "x.state", "test 1")
    assert again is not None and list(again) == list(state)
    for name, values in state.items():
        assert again[name].dtype == values.dtype and again[name].shape == values.shape
        assert np.array_equal(again[name], values)
    assert [path.name for path in tmp_path.iterdir()] == ["x.state"]


def test_what_is_missing_cut_altered_or_of_another_kind_is_none(tmp_path: Path) -> None:
    path = tmp_path / "x.state"
    assert read_state(path, "test 1") is None
    write_state(path, "test 1", {"rows": np.arange(3)})
    assert read_state(path, "test 2") is None
    raw = path.read_bytes()
    for place in range(len(raw)):
        path.write_bytes(raw[:place])
        assert read_state(path, "test 1") is None
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 1 << place % 8]) + raw[place + 1 :])
        assert read_state(path, "test 1") is None
    path.write_bytes(raw + b"\0")
    assert read_state(path, "test 1") is None
