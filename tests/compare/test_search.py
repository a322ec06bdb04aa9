"""What [tune] may say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnnscale.compare.plan import Choice, Combination
from gnnscale.compare.search import Search, Values, read_search

COMBINATION = Combination(
    Choice("synthetic", {}, "synthetic"),
    Choice("gcn", {"hidden": 64, "layers": 2, "dropout": 0.5}, "gcn"),
    Choice("gas", {"num_parts": 20}, "gas"),
    {"lr": 0.01, "weight_decay": 5e-4},
    [0],
)


def read(table: Any, **flags: Any) -> tuple[Search, list[str]]:
    return read_search(table, [COMBINATION], flags)


def test_a_whole_table() -> None:
    search, problems = read(
        {
            "trials": 5,
            "seeds": 2,
            "train": {"lr": {"low": 0.001, "high": 0.1, "log": True}},
            "model": {"dropout": [0.0, 0.5]},
            "sampler": {"gas": {"num_parts": {"low": 5, "high": 50}}},
        },
        seconds=3,
    )
    assert not problems
    assert (search.trials, search.seconds, search.seeds) == (5, 3, (0, 1))
    assert list(search.of(COMBINATION)) == [("train", "lr"), ("model", "dropout"), ("sampler", "num_parts")]
    other = replace(COMBINATION, sampler=Choice("full", {}, "full"))
    assert list(search.of(other)) == [("train", "lr"), ("model", "dropout")]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (None, "lacks the table [tune]"),
        ([], "tune is []"),
        ({"trial": 3, "train": {"lr": [1, 2]}}, "did you mean 'trials'?"),
        ({"trials": 0, "train": {"lr": [0.1, 0.2]}}, "trials in [tune] is 0"),
        ({"trials": True, "train": {"lr": [0.1, 0.2]}}, "trials in [tune] is True"),
        ({"seconds": -1, "train": {"lr": [0.1, 0.2]}}, "seconds in [tune] is -1"),
        ({"seeds": [], "train": {"lr": [0.1, 0.2]}}, "in [tune]: "),
        ({"trials": 3}, "names no setting to search"),
        ({"train": 3}, "tune.train is 3; it must be a table"),
        ({"train": {"learning_rate": [0.1]}}, "unknown key 'learning_rate' in [tune.train]"),
        ({"train": {"device": ["cpu"]}}, "unknown key 'device' in [tune.train]"),
        ({"train": {"lr": 0.1}}, "lr in [tune.train] is 0.1; give a list"),
        ({"train": {"lr": []}}, "give a list"),
        ({"train": {"lr": [0.1, 0.1]}}, "a value twice"),
        ({"train": {"lr": [0.1, -0.1]}}, "[tune.train] lr is -0.1; it must be a number above 0."),
        ({"train": {"lr": {"low": 0.1, "high": 0.1}}}, "low below high"),
        ({"train": {"lr": {"low": 0.1, "high": float("inf")}}}, "low below high"),
        ({"train": {"lr": {"low": "a", "high": 1}}}, "must be numbers"),
        ({"train": {"lr": {"low": 0.1}}}, "give a list"),
        ({"train": {"lr": {"low": 0, "high": 1, "log": True}}}, "low must be above 0"),
        ({"train": {"lr": {"low": 1, "high": 2, "log": 1}}}, "log = 1; it must be true or false"),
        ({"model": {"dropout": [0.5, 1.0]}}, "dropout is 1.0"),
        ({"sampler": {"gaz": {"num_parts": [3, 4]}}}, "did you mean 'gas'?"),
        ({"sampler": {"gas": 3}}, "tune.sampler.gas is 3"),
    ],
)
def test_what_is_wrong_is_said(table: Any, said: str) -> None:
    _, problems = read(table)
    assert any(said in problem for problem in problems), problems


def test_what_stands_in_brackets_is_not_searched() -> None:
    fixed = Choice("gas", {"num_parts": 20}, "gas(num_parts=20)", brackets={"num_parts": 20})
    table = {"sampler": {"gas": {"num_parts": [5, 20]}}}
    _, problems = read_search(table, [replace(COMBINATION, sampler=fixed)], {})
    assert problems == ["sampler gas(num_parts=20) has num_parts in brackets, and [tune] searches it; leave one out."]


def test_all_problems_at_once() -> None:
    _, problems = read({"trials": 0, "seconds": 0, "train": {"lr": 3, "epoch": [1]}, "modle": {}})
    assert len(problems) == 5, problems


@given(st.lists(st.integers() | st.floats(allow_nan=False) | st.text() | st.lists(st.integers()), min_size=1))
def test_a_value_comes_back_from_optuna_as_it_was(choices: list[Any]) -> None:
    try:
        values = Values.read(choices)
    except ValueError:
        return  # a value twice
    assert [values.decode(values.encode(choice)) for choice in choices] == choices


NAMES = st.sampled_from(["train", "model", "sampler", "gas", "lr", "low", "high", "log", "trials", "seeds"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()


@given(st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text() | NAMES, inner)))
def test_anything_at_all_is_read_or_refused(table: Any) -> None:
    search, problems = read(table)
    assert problems or search.of(COMBINATION) or search.sampler == {} or search.sampler
    assert all(isinstance(problem, str) and problem.endswith(".") for problem in problems)


def test_a_sampler_in_a_file_goes_by_its_path_or_its_class(tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    own = replace(COMBINATION, sampler=Choice(f"{tmp_path}/mine.py:Mine", {}, "Mine"))
    for called in ("mine.py:Mine", f"{tmp_path}/mine.py:Mine", "Mine"):
        search, problems = read_search({"sampler": {called: {"k": [1, 2]}}}, [own], {})
        assert not problems
        assert list(search.of(own)) == [("sampler", "k")]
    _, problems = read_search({"sampler": {"other.py:Mine": {"k": [1, 2]}}}, [own], {})
    assert "unknown sampler 'other.py:Mine'" in problems[0]
