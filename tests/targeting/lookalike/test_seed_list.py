from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from targeting.lookalike import seed_list
from targeting.lookalike.seed_list import MAX_NAMED, RejectedList, read_seed_list


@given(ids=st.lists(st.integers(1, 2**64 - 1), min_size=1, max_size=30, unique=True), size=st.integers(1, 40))
def test_ids_come_back_in_order_however_the_text_is_cut(ids: list[int], size: int) -> None:
    text = ("viewer_id,since\r\n" + "".join(f'"{number}",x\r\n' for number in ids)).encode()
    chunks = [text[at : at + size] for at in range(0, len(text), size)]
    assert read_seed_list(chunks).tolist() == ids


def test_without_heading_and_without_a_last_line_break() -> None:
    assert read_seed_list([b"\xef\xbb\xbf7\n\n 8 \n18446744073709551615"]).tolist() == [7, 8, 2**64 - 1]


def test_all_or_nothing_with_every_wrong_line_named() -> None:
    text = b"id\n5\nabc\n0\n18446744073709551616\n5\n-3\n" + b"1" * 300 + b"\n6\n"
    with pytest.raises(RejectedList) as refused:
        read_seed_list([text])
    assert [line for line, _ in refused.value.rejects] == [3, 4, 5, 6, 7, 8]
    assert "line 6: 5 stands in line 2 already" in str(refused.value)
    assert "line 8: longer than 256 bytes" in str(refused.value)


def test_only_the_first_rejects_are_named_but_all_are_counted() -> None:
    with pytest.raises(RejectedList, match="and 80 more") as refused:
        read_seed_list([b"id\n" + b"x\n" * (MAX_NAMED + 80)])
    assert refused.value.count == MAX_NAMED + 80


def test_too_many_and_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seed_list, "MAX_IDS", 3)
    with pytest.raises(RejectedList, match="line 4: more than 3 ids"):
        read_seed_list([b"1\n2\n3\n4\n5\n"])
    with pytest.raises(ValueError, match="empty"):
        read_seed_list([b"viewer\n\n"])
