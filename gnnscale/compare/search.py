"""``[tune]``: which settings ``gnnscale tune`` searches, over which values, and with what budget."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gnnscale.compare.names import did_you_mean
from gnnscale.compare.parse import parse_seeds
from gnnscale.compare.plan import Choice, Combination
from gnnscale.compare.settings import MODEL, PER_SAMPLER, TRAINING, problem_with
from gnnscale.compare.source import Places
from gnnscale.plugins import absolute_choice

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

_KEYS = ("trials", "seconds", "seeds", "train", "model", "sampler")
#: Settings of the training that may be searched: those that a case may have for one sampler, but not where rows lie.
SEARCHED = tuple(name for name in PER_SAMPLER if not name.startswith("history_"))


@dataclass(frozen=True)
class Values:
    """The values that one setting may take: a list, or all from ``low`` to ``high``."""

    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False

    @classmethod
    def read(cls, value: Any) -> Values:
        """Read what stands in the file.

        Raises
        ------
        ValueError
            In words that go on after the setting's name.

        Examples
        --------
        >>> Values.read({"low": 0.001, "high": 0.1, "log": True})
        Values(choices=(), low=0.001, high=0.1, log=True)
        """
        if isinstance(value, list) and value:
            if len({json.dumps(choice, default=repr) for choice in value}) < len(value):
                raise ValueError(f"is {value!r}, which has a value twice; give each once")
            return cls(choices=tuple(value))
        if not isinstance(value, dict) or not {"low", "high"} <= set(value) <= {"low", "high", "log"}:
            raise ValueError(f"is {value!r}; give a list of values, or {{ low = 0.001, high = 0.1, log = true }}")
        low, high, log = value["low"], value["high"], value.get("log", False)
        numbers = all(isinstance(end, (int, float)) and not isinstance(end, bool) for end in (low, high))
        if not numbers or not -math.inf < low < high < math.inf:
            raise ValueError(f"goes from {low!r} to {high!r}; low and high must be numbers, low below high")
        if not isinstance(log, bool):
            raise ValueError(f"has log = {log!r}; it must be true or false")
        if log and low <= 0:
            raise ValueError(f"goes from {low!r} with log = true; low must be above 0 then")
        return cls(low=low, high=high, log=log)

    @property
    def ends(self) -> tuple[Any, ...]:
        """Values of which the setting has to accept each, so that it accepts all."""
        return self.choices or (self.low, self.high)

    def distribution(self) -> BaseDistribution:
        """The same for optuna, to which a value of a list is its text in JSON."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.choices:
            return CategoricalDistribution([json.dumps(choice) for choice in self.choices])
        if isinstance(self.low, int) and isinstance(self.high, int):
            return IntDistribution(self.low, self.high, log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)

    def encode(self, value: Any) -> Any:
        """A value as optuna has it; None where it is not among these."""
        if self.choices:
            return json.dumps(value) if value in self.choices else None
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return value if number and self.low <= value <= self.high else None

    def decode(self, value: Any) -> Any:
        """A value of optuna's as the setting has it."""
        return json.loads(value) if self.choices else value


def _names(sampler: Choice) -> set[str]:
    return {sampler.name, sampler.short_name, sampler.label}


@dataclass(frozen=True)
class Search:
    """What ``[tune]`` says.

    ``train``, ``model`` and ``sampler[name]`` give the values of each setting. A combination has ``trials`` trials,
    or fewer where they have taken ``seconds`` seconds of training; each trial trains on all of ``seeds``.
    """

    trials: int = 20
    seconds: float | None = None
    seeds: tuple[int, ...] = (0,)
    train: dict[str, Values] = field(default_factory=dict)
    model: dict[str, Values] = field(default_factory=dict)
    sampler: dict[str, dict[str, Values]] = field(default_factory=dict)

    def of(self, combination: Combination) -> dict[tuple[str, str], Values]:
        """The settings searched for a combination, by table and name."""
        return {(path[0], name): values for path, table in self._tables(combination) for name, values in table.items()}

    def places_of(self, combination: Combination, places: Places) -> dict[str, str]:
        """Where the settings searched for a combination stand."""
        return {name: places.of("tune", *path, name) for path, table in self._tables(combination) for name in table}

    def _tables(self, combination: Combination) -> Iterator[tuple[tuple[str, ...], dict[str, Values]]]:
        yield ("train",), self.train
        yield ("model",), self.model
        for called, settings in self.sampler.items():
            if absolute_choice(called) in _names(combination.sampler):
                yield ("sampler", called), settings


def read_search(
    table: Any, combinations: list[Combination], flags: Mapping[str, Any], places: Places | None = None
) -> tuple[Search, list[str]]:
    """Read ``[tune]``.

    Parameters
    ----------
    table : object
        What stands under ``tune``.
    combinations : list of Combination
        Those of the comparison.
    flags : mapping of str to object
        ``trials`` and ``seconds``, where they were given; they override the table.
    places : Places, optional
        Where the keys of the file stand.

    Returns
    -------
    Search
    list of str
        A sentence for each thing that is wrong.
    """
    reader = _SearchReader(table, combinations, places or Places())
    return reader.read(flags), reader.problems


class _SearchReader:
    def __init__(self, table: Any, combinations: list[Combination], places: Places) -> None:
        self.combinations, self.places = combinations, places
        self.problems: list[str] = []
        self.content: dict[str, Any] = table if isinstance(table, dict) else {}
        if not self.content:
            got = "it lacks the table [tune]" if table in (None, {}) else f"tune is {table!r}"
            self.add(
                f"{got}; say what to search, such as [tune.train] with lr = {{ low = 0.001, high = 0.1, log = true }}."
            )
        for key in self.content:
            if key not in _KEYS:
                self.add(f"unknown key {key!r} in [tune]: {did_you_mean(key, _KEYS)}", key)

    def add(self, problem: str, *path: str) -> None:
        """Note what is wrong with a key under ``tune``."""
        self.problems.append(self.places.of("tune", *path) + problem)

    def read(self, flags: Mapping[str, Any]) -> Search:
        given = {**self.content, **{name: value for name, value in flags.items() if value is not None}}
        trials, seconds = given.get("trials", 20), given.get("seconds")
        if not isinstance(trials, int) or isinstance(trials, bool) or trials < 1:
            self.add(f"trials in [tune] is {trials!r}; it must be a whole number from 1 up.", "trials")
        number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
        if seconds is not None and not (number and 0 < seconds < math.inf):
            self.add(f"seconds in [tune] is {seconds!r}; it must be a number above 0.", "seconds")
        search = Search(
            trials,
            seconds,
            self.seeds(),
            dict(self.settings("train")),
            dict(self.settings("model")),
            dict(self.samplers()),
        )
        for combination in self.combinations:
            choices = {"model": combination.model, "sampler": combination.sampler}
            for kind, name in search.of(combination):
                # What stands in brackets overrides everything, the values found included.
                if kind in choices and name in choices[kind].brackets:
                    self.add(
                        f"{kind} {choices[kind].label} has {name} in brackets, and [tune] searches it; leave one out.",
                        kind,
                    )
        if self.content and not (search.train or search.model or search.sampler or self.problems):
            self.add("[tune] names no setting to search; add [tune.train], [tune.model] or [tune.sampler.NAME].")
        return search

    def seeds(self) -> tuple[int, ...]:
        try:
            return tuple(parse_seeds(self.content.get("seeds", 1)))
        except ValueError as error:
            self.add(f"in [tune]: {error}", "seeds")
            return ()

    def table(self, name: str, table: Any) -> dict[str, Any]:
        if isinstance(table, dict):
            return table
        self.add(f"{name} is {table!r}; it must be a table, headed by [{name}].", *name.split(".")[1:])
        return {}

    def settings(self, kind: str) -> Iterator[tuple[str, Values]]:
        # A model's own settings, such as the heads of GAT, are checked where the model is built.
        known = {name: TRAINING[name] for name in SEARCHED} if kind == "train" else MODEL
        for name, value in self.table(f"tune.{kind}", self.content.get(kind, {})).items():
            if kind == "train" and name not in known:
                self.add(f"unknown key {name!r} in [tune.{kind}]: {did_you_mean(name, known)}", kind, name)
                continue
            if values := self.values(value, kind, name):
                yield name, values
                if name in known:
                    found = (problem_with(name, end, known, f"[tune.{kind}] ") for end in values.ends)
                    for problem in filter(None, found):
                        self.add(problem, kind, name)

    def samplers(self) -> Iterator[tuple[str, dict[str, Values]]]:
        known = {name for combination in self.combinations for name in _names(combination.sampler)}
        for name, table in self.table("tune.sampler", self.content.get("sampler", {})).items():
            if known and absolute_choice(name) not in known:
                self.add(
                    f"[tune.sampler] has an unknown sampler {name!r}: {did_you_mean(name, known)}", "sampler", name
                )
            own = self.table(f"tune.sampler.{name}", table)
            found = {key: self.values(value, "sampler", name, key) for key, value in own.items()}
            yield name, {key: values for key, values in found.items() if values}

    def values(self, value: Any, *path: str) -> Values | None:
        try:
            return Values.read(value)
        except ValueError as error:
            self.add(f"{path[-1]} in [tune.{'.'.join(path[:-1])}] {error}.", *path)
            return None
