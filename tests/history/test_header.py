from contextlib import suppress

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnscale.history.header import HEADER, MAX_TABLES, Header
from gnnscale.history.memory import DTYPES

LAST = 128 + 3 * 16  # where the entries of three tables end


def page(num_rows=1000, dtype=torch.bfloat16, kind="history"):
    content = Header.made(num_rows, dtype, kind)
    header = Header(memoryview(content), "this")
    header.step = 77
    for width in (3, 5, 7):
        header.enter(4096 * width, width)
    return content


def said(header):
    return header.num_rows, header.dtype, header.kind, header.step, header.entries()


@given(
    st.integers(0, 2**63),
    st.sampled_from(list(DTYPES.values())),
    st.sampled_from(["history", "features"]),
    st.integers(0, 2**32 - 1),
    st.lists(st.tuples(st.integers(0, 2**63), st.integers(1, 2**32 - 1)), max_size=MAX_TABLES),
)
def test_a_header_says_what_was_put_in(num_rows, dtype, kind, step, tables):
    content = Header.made(num_rows, dtype, kind)
    assert len(content) == HEADER
    header = Header(memoryview(content), "this")
    header.step = step
    for begin, width in tables:
        before = header.state
        header.enter(begin, width)
        assert header.state != before
    assert said(header) == said(Header(memoryview(content), "this")) == (num_rows, dtype, kind, step, tables)


@given(st.dictionaries(st.integers(0, HEADER - 1), st.integers(1, 255), min_size=1, max_size=4))
def test_no_damage_passes_for_something_else(changes):
    content, right = page(), said(Header(memoryview(page()), "this"))
    for place, change in changes.items():
        content[place] ^= change
    with suppress(ValueError):
        header = Header(memoryview(content), "this")
        assert said(header) == right  # of bytes that mean nothing


@pytest.mark.parametrize("place", [*range(28 + 4), *range(64, 80), *range(128, LAST)])
def test_each_byte_that_means_something_is_checked(place):
    for bit in range(8):
        content = page()
        content[place] ^= 1 << bit
        with pytest.raises(ValueError, match=r"^this (is not a file of|has a damaged header, and cannot be used)"):
            Header(memoryview(content), "this")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda content: content.__setitem__(slice(0, 8), b"\x89PNG\r\n\x1a\n"),
            "this is not a file of a HistoryStore",
        ),
        (lambda content: content.__setitem__(slice(8, 12), content[8:12][::-1]), "machine of the other byte order"),
    ],
)
def test_what_is_something_else_is_refused(change, sentence):
    content = page()
    change(content)
    with pytest.raises(ValueError, match=sentence):
        Header(memoryview(content), "this")


def test_a_newer_format_is_refused(monkeypatch):
    monkeypatch.setattr("gnnscale.history.header._VERSION", 2)
    content = page()
    monkeypatch.undo()
    with pytest.raises(ValueError, match="this has format 2, and this gnnscale reads format 1; update gnnscale"):
        Header(memoryview(content), "this")


def test_there_is_room_for_64_tables():
    header = Header(memoryview(page()), "this")
    for _ in range(61):
        header.enter(4096, 1)
    with pytest.raises(ValueError, match="there are 64 tables, which is the limit"):
        header.enter(4096, 1)
    assert len(header.entries()) == 64


def test_who_is_killed_while_entering_a_table_leaves_those_before(monkeypatch):
    content = page()
    header = Header(memoryview(content), "this")
    for step in ("_summed", "_sealed"):  # of the entry, and of their number
        with monkeypatch.context() as patch:
            patch.setattr(f"gnnscale.history.header.{step}", lambda content: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                header.enter(1 << 20, 9)
        assert len(Header(memoryview(content), "this").entries()) == 3
