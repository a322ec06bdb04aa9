import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnnscale.compare.parse import format_choice, parse_choice, split_list

NAMES = st.from_regex(r"[a-z][a-z_]{0,8}", fullmatch=True).filter(lambda name: name not in ("as", "if", "in"))
LITERALS = st.recursive(
    st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda values: st.lists(values, max_size=3),
    max_leaves=5,
)
ARGUMENTS = st.dictionaries(
    st.sampled_from(["num_parts", "batch_size", "fanouts", "lr", "replace"]), LITERALS, max_size=3
)


@given(st.lists(st.tuples(NAMES, ARGUMENTS), min_size=1, max_size=4))
def test_what_is_written_is_read_back(choices):
    # A quote inside a text is escaped by repr, which a list on a command line need not understand.
    choices = [(n, a) for n, a in choices if not any(c in repr(a) for c in "\\\"'")] or [("gas", {})]
    text = ", ".join(format_choice(*choice) for choice in choices)
    assert [parse_choice(entry) for entry in split_list(text)] == choices


def test_commas_in_brackets_and_quotes_do_not_split():
    text = "full,neighbor(fanouts=[10, 5]), gas(num_parts=40,batch_size=10),x(a=',')"
    assert split_list(text) == [
        "full",
        "neighbor(fanouts=[10, 5])",
        "gas(num_parts=40,batch_size=10)",
        "x(a=',')",
    ]


@pytest.mark.parametrize("text", ["gas(num_parts=40", "gas)", "gas(a=[1)", "gas(a='b)"])
def test_open_brackets_are_refused(text):
    with pytest.raises(ValueError, match=r"lacks a closing|nothing opened"):
        split_list(text)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "does not begin with a name"),
        ("(a=1)", "does not begin with a name"),
        ("gas(40)", "argument without a name"),
        ("gas(**{'a': 1})", "argument without a name"),
        ("gas(a=1, a=2)", "gives a twice"),
        ("gas(a=b)", "a in .* is not a plain value"),
        ("gas(a=__import__('os').getcwd())", "a in .* is not a plain value"),
        ("gas(a=)", "cannot be read"),
        ("gas(a=1)(b=2)", "cannot be read"),
        ("gas(a=1) + 2", "cannot be read"),
        ("gas(a=1", "cannot be read"),
        ("gas(a=\0)", "cannot be read"),
        ("gas(a=" + "[" * 500 + "]" * 500 + ")", "cannot be read|not a plain value"),
    ],
)
def test_malformed_choices_are_refused_in_one_sentence(text, sentence):
    with pytest.raises(ValueError, match=sentence):
        parse_choice(text)


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text):
    with contextlib.suppress(ValueError):
        for entry in split_list(text):
            name, _ = parse_choice(entry)
            assert name
