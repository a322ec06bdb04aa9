"""Places of keys, against the standard library's parser and by construction."""

import sys

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from gnnscale.compare.locate import locate

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DOCUMENT = '''# a comment = [
title = "no # comment" # 2
"quoted key".b."d\\n" = 1
'literal' = [ 1, # 4
  2, [3,
  4], {x = 1, "y z".w = [7]}, """
text ] } with = signs """"", 1979-05-27 07:32:00, 5]  # 6 to 7
date = 1979-05-27 07:32:00
[a.b]
k = { q = 1, r = { s = [1,
 2] } } # 11
[[case]]
for = 3
  [[case]]
[case.train]
lr = 1
[[case.sub]]
z=1
[[case.sub]]
  z=2
[case.sub.deep]
q = \'\'\'x
]\'\'\'
last = true'''


def paths(value, path=()):
    if path:
        yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inside:
        yield from paths(each, (*path, key))


def test_everything_in_a_document_has_its_line():
    lines = locate(DOCUMENT)
    assert set(lines) == set(paths(tomllib.loads(DOCUMENT)))
    expected = {
        ("title",): 2, ("quoted key", "b", "d\n"): 3, ("literal", 1): 5, ("literal", 2, 1): 6,
        ("literal", 3, "y z", "w", 0): 6, ("literal", 4): 6, ("literal", 5): 7, ("literal", 6): 7, ("date",): 8,
        ("a",): 9, ("a", "b", "k", "r", "s", 0): 10, ("a", "b", "k", "r", "s", 1): 11, ("case",): 12, ("case", 0): 12,
        ("case", 1): 14, ("case", 1, "train", "lr"): 16, ("case", 1, "sub", 0, "z"): 18,
        ("case", 1, "sub", 1, "z"): 20, ("case", 1, "sub", 1, "deep", "q"): 22,
        ("case", 1, "sub", 1, "deep", "last"): 24,
    }  # fmt: skip
    assert {path: lines[path] for path in expected} == expected


KEYS = st.text(max_size=4)
SCALARS = st.integers(-9, 9) | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=8) | st.dates() | (
    st.datetimes()
)  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=8
)


@given(st.dictionaries(KEYS, VALUES, max_size=4), st.booleans())
def test_any_document_is_gone_through_whole(content, multiline):
    text = tomli_w.dumps(content, multiline_strings=multiline)
    lines = locate(text)
    assert set(lines) == set(paths(tomllib.loads(text)))
    assert all(1 <= line <= text.count("\n") + 1 for line in lines.values())


@given(
    st.lists(
        st.tuples(st.sampled_from(["# [x]", "", '  "k = 1"', "'''\n\n'''", '["""\n""", 1]', "{a = 1}", "[\n1,\n\n2]"])),
        max_size=6,
    )
)
def test_a_key_is_on_the_line_where_it_was_written(fillers):
    """Lines that hold all kinds of things, and after each a key whose line is known."""
    text, expected = "", {}
    for number, (filler,) in enumerate(fillers):
        text += f"{filler}\n" if not filler.strip() or filler.startswith("#") else f"f{number} = {filler.strip()}\n"
        expected[(f"k{number}",)] = text.count("\n") + 1
        text += f"k{number} = {number}\n"
    lines = locate(text)
    assert {path: lines[path] for path in expected} == expected


@pytest.mark.parametrize("text", ["", "\n", "# only this", "a=1"])
def test_little_is_a_document_too(text):
    assert set(locate(text)) == set(paths(tomllib.loads(text)))
