"""``[[case]]``: settings that hold for some datasets, models or samplers of a comparison alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gnnscale.compare.names import did_you_mean
from gnnscale.compare.parse import parse_seeds
from gnnscale.compare.plan import Choice, Combination
from gnnscale.compare.settings import MODEL, PER_SAMPLER, TRAINING, problem_with

KINDS = ("dataset", "model", "sampler")
_KEYS = ("for", "seeds", "train", "model", "sampler")


@dataclass(frozen=True)
class Case:
    """The settings of one ``[[case]]``, and the names that it is for; a kind that it does not name may be any."""

    names: dict[str, list[str]]
    train: dict[str, Any]
    model: dict[str, Any]
    sampler: dict[str, Any]
    seeds: list[int] | None

    def holds_for(self, **choices: Choice) -> bool:
        """Whether it is for these choices, each given by its kind; a name and a label both mean the choice."""
        return all(
            not names_of(choices[kind]).isdisjoint(names) for kind, names in self.names.items() if kind in choices
        )


def names_of(choice: Choice) -> set[str]:
    """How a case may call a choice."""
    return {choice.name, choice.short_name, choice.label}


def settle(
    choices: Mapping[str, Choice],
    training: Mapping[str, Any],
    seeds: list[int],
    cases: list[Case],
    flags: Mapping[str, Any],
) -> Combination:
    """Put together what holds for one dataset, one model and one sampler.

    Parameters
    ----------
    choices : mapping of str to Choice
        One of each of :data:`KINDS`.
    training, seeds
        What holds where no case says otherwise.
    cases : list of Case
        Later ones override earlier ones.
    flags : mapping of str to object
        They override the cases; what stands in brackets after a name overrides the flags.
    """
    model, sampler = choices["model"], choices["sampler"]
    of_training, of_model, of_sampler = dict(training), dict(model.arguments), dict(sampler.arguments)
    for case in cases:
        if case.holds_for(**choices):
            of_training |= case.train
            of_model |= case.model
            of_sampler = _without(of_sampler, case.train) | case.sampler
            seeds = seeds if case.seeds is None or "seeds" in flags else case.seeds
    of_training |= {name: flags[name] for name in TRAINING if name in flags}
    of_model |= {name: flags[name] for name in MODEL if name in flags} | model.brackets
    of_sampler = _without(of_sampler, flags) | sampler.brackets
    own = {name: value for name, value in of_sampler.items() if name in PER_SAMPLER}
    return Combination(
        choices["dataset"],
        replace(model, arguments=of_model),
        replace(sampler, arguments=_without(of_sampler, own)),
        of_training | own,
        seeds,
        frozenset(own),
    )


def _without(arguments: dict[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a sampler, without those training settings among them that the others have too."""
    return {name: value for name, value in arguments.items() if name not in PER_SAMPLER or name not in others}


def read_cases(
    tables: Any,
    known: Mapping[str, set[str]],
    models: list[Choice],
    problem_with_model: Callable[[str, dict[str, Any]], list[str]],
    problems: list[str],
) -> list[Case]:
    """Read the cases of a file, and add to ``problems`` a sentence for each thing that is wrong with one.

    Parameters
    ----------
    tables : object
        What stands under ``case``.
    known : mapping of str to set of str
        By kind, the names that a case may be for.
    models : list of Choice
        The models of the comparison.
    problem_with_model : callable
        Called with a model's name and a case's settings for it; gives sentences.
    problems : list of str
        To be added to.
    """
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        problems.append(f"case is {tables!r}; head each case by [[case]].")
        return []
    cases = []
    for number, table in enumerate(tables, 1):
        where = f"case {number}: "
        reader = _CaseReader(table, known)
        case = reader.read()
        for model in models:
            if case.holds_for(model=model):
                reader.problems += problem_with_model(model.name, case.model)
        problems += [where + problem for problem in reader.problems]
        cases.append(case)
    return cases


class _CaseReader:
    """Reads one case, gathering problems."""

    def __init__(self, table: dict[str, Any], known: Mapping[str, set[str]]) -> None:
        self.content, self.known = table, known
        self.problems = [f"unknown key {key!r}: {did_you_mean(key, _KEYS)}" for key in table if key not in _KEYS]

    def read(self) -> Case:
        train, model, sampler = (self.table(key) for key in ("train", "model", "sampler"))
        self.problems += [f"unknown key {name!r} in train: {did_you_mean(name, TRAINING)}"
                          for name in train if name not in TRAINING]  # fmt: skip
        if "num_layers" in sampler:
            self.problems.append("a sampler has no setting 'num_layers': it follows from the model's layers.")
        of_sampler = {name: TRAINING[name] for name in PER_SAMPLER}
        for values, settings in ((train, TRAINING), (model, MODEL), (sampler, of_sampler)):
            found = (problem_with(name, value, settings) for name, value in values.items() if name in settings)
            self.problems += [problem for problem in found if problem]
        return Case(self.names(), train, model, sampler, self.seeds())

    def table(self, key: str) -> dict[str, Any]:
        value = self.content.get(key, {})
        if isinstance(value, dict):
            return value
        self.problems.append(f"{key} is {value!r}; it must be a table, such as {key} = {{ ... }}.")
        return {}

    def names(self) -> dict[str, list[str]]:
        """Whom the case is for, by kind."""
        kinds = self.content.get("for")
        if not isinstance(kinds, dict) or not kinds:
            got = f"for is {kinds!r}" if "for" in self.content else "it lacks for"
            self.problems.append(f"{got}; say whom it is for, such as for = {{ dataset = 'cora', model = 'gcn' }}.")
            return {}
        named = {}
        for kind, value in kinds.items():
            names = [value] if isinstance(value, str) else value
            if kind not in KINDS:
                self.problems.append(f"unknown key {kind!r} in for: {did_you_mean(kind, KINDS)}")
            elif not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
                self.problems.append(f"{kind} in for is {value!r}; it must be a name or a list of names.")
            else:
                named[kind] = names
                self.problems += [
                    f"it is for {kind} {name!r}, which is not in the comparison: {did_you_mean(name, self.known[kind])}"
                    for name in names
                    if name not in self.known[kind]
                ]
        return named

    def seeds(self) -> list[int] | None:
        if "seeds" not in self.content:
            return None
        try:
            return parse_seeds(self.content["seeds"])
        except ValueError as error:
            self.problems.append(str(error))
            return None
