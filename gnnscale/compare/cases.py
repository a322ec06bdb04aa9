"""``[[case]]``: settings that hold for some datasets, models or samplers of a comparison alone."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from gnnscale.compare.names import did_you_mean
from gnnscale.compare.parse import parse_seeds
from gnnscale.compare.plan import Choice, Combination
from gnnscale.compare.settings import MODEL, PER_SAMPLER, TRAINING, problem_with
from gnnscale.compare.source import Places

KINDS = ("dataset", "model", "sampler")
_TABLES = ("train", "model", "sampler")
_KEYS = ("for", "seeds", *_TABLES)


@dataclass(frozen=True)
class Case:
    """The settings of one ``[[case]]``, and the names that it is for; a kind that it does not name may be any.

    ``places`` tells where each setting was given.
    """

    names: dict[str, list[str]]
    train: dict[str, Any]
    model: dict[str, Any]
    sampler: dict[str, Any]
    seeds: list[int] | None
    places: dict[str, str] = field(default_factory=dict, compare=False)

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
    places: Mapping[str, str] | None = None,
) -> Combination:
    """Put together what holds for one dataset, one model and one sampler.

    Parameters
    ----------
    choices : mapping of str to Choice
        One of each of :data:`KINDS`.
    training, seeds
        What holds where no case says otherwise.
    cases : list of Case
        Later ones override earlier ones; what stands in brackets after a name overrides them.
    places : mapping of str to str, optional
        Where the settings of training were given.
    """
    model, sampler = choices["model"], choices["sampler"]
    of_training, of_model, of_sampler = dict(training), dict(model.arguments), dict(sampler.arguments)
    where = {**(places or {}), **model.places, **sampler.places}
    for case in cases:
        if case.holds_for(**choices):
            of_training |= case.train
            of_model |= case.model
            of_sampler = _without(of_sampler, case.train) | case.sampler
            seeds = seeds if case.seeds is None else case.seeds
            where |= case.places
    of_model |= model.brackets
    of_sampler |= sampler.brackets
    where |= {name: choice.place for choice in (model, sampler) for name in choice.brackets}
    own = {name: value for name, value in of_sampler.items() if name in PER_SAMPLER}
    of_training |= own
    if (of_training.get("device"), of_training.get("history_placement")) == ("cpu", "auto"):
        of_training["history_placement"] = "host"  # so that a cell is what it was before there was "auto"
    return Combination(
        choices["dataset"],
        replace(model, arguments=of_model),
        replace(sampler, arguments=_without(of_sampler, own)),
        of_training,
        seeds,
        frozenset(own),
        where,
    )


def _without(arguments: dict[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a sampler, without those training settings among them that the others have too."""
    return {name: value for name, value in arguments.items() if name not in PER_SAMPLER or name not in others}


def only_for(compared: Mapping[str, set[str]], tables: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The cases without the names that are not compared; not those that are then for nobody, or that say nothing."""
    kept = []
    for table in tables:
        names = {kind: [value] if isinstance(value, str) else value for kind, value in table["for"].items()}
        left = {kind: [name for name in some if name in compared[kind]] for kind, some in names.items()}
        if all(left.values()) and says_something(table):
            kept.append({**table, "for": left})
    return kept


def says_something(table: Mapping[str, Any]) -> bool:
    """Whether a case has settings at all."""
    return any(table.get(key) for key in ("seeds", *_TABLES)) or table.get("seeds") == 0


def read_cases(
    tables: Any,
    known: Mapping[str, set[str]],
    models: list[Choice],
    unknown_settings: Callable[[str, dict[str, Any]], list[tuple[str, str]]],
    problem: Callable[..., None],
    places: Places,
) -> list[Case]:
    """Read the cases of a file, and tell of each thing that is wrong with one.

    Parameters
    ----------
    tables : object
        What stands under ``case``.
    known : mapping of str to set of str
        By kind, the names that a case may be for.
    models : list of Choice
        The models of the comparison.
    unknown_settings : callable
        Called with a model's name and a case's settings for it; gives those that it has not, each with a sentence.
    problem : callable
        Called with a sentence and the path of the key that it is about.
    places : Places
        Where the keys stand.
    """
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        problem(f"case is {tables!r}; head each case by [[case]].", "case")
        return []
    cases = []
    for number, table in enumerate(tables):
        reader = _CaseReader(table, known, ("case", number), problem, places)
        case = reader.read()
        unknown = set()
        for model in models:
            if case.holds_for(model=model):
                for name, sentence in unknown_settings(model.name, case.model):
                    reader.problem(sentence, "model", name)
                    unknown.add(name)
        if case.names:  # else nobody knows whom it is for
            cases.append(replace(case, model=_but(case.model, unknown)))
    return cases


def _but(values: Mapping[str, Any], names: Container[str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


class _CaseReader:
    """Reads one case; what is wrong is told and left out."""

    def __init__(
        self,
        table: dict[str, Any],
        known: Mapping[str, set[str]],
        path: tuple[str | int, ...],
        problem: Callable[..., None],
        places: Places,
    ) -> None:
        self.content, self.known, self.path, self.tell, self.places = table, known, path, problem, places

    def problem(self, sentence: str, *keys: str | int) -> None:
        self.tell(sentence, *self.path, *keys)

    def read(self) -> Case:
        for key in self.content:
            if key not in _KEYS:
                self.problem(f"unknown key {key!r} in a case: {did_you_mean(key, _KEYS)}", key)
        train, model, sampler = (self.table(key) for key in _TABLES)
        wrong: dict[str, set[str]] = {key: set() for key in _TABLES}
        for name in train:
            if name not in TRAINING:
                self.problem(f"unknown key {name!r} in train: {did_you_mean(name, TRAINING)}", "train", name)
                wrong["train"].add(name)
        if "num_layers" in sampler:
            self.problem("a sampler has no setting 'num_layers': it follows from the model's layers.",
                         "sampler", "num_layers")  # fmt: skip
            wrong["sampler"].add("num_layers")
        of_sampler = {name: TRAINING[name] for name in PER_SAMPLER}
        for key, values, settings in zip(_TABLES, (train, model, sampler), (TRAINING, MODEL, of_sampler), strict=True):
            for name, value in values.items():
                if name in settings and (sentence := problem_with(name, value, settings)):
                    self.problem(sentence, key, name)
                    wrong[key].add(name)
        train, model, sampler = (
            _but(values, wrong[key]) for key, values in zip(_TABLES, (train, model, sampler), strict=True)
        )
        places = {name: self.places.of(*self.path, key, name)
                  for key, values in zip(_TABLES, (train, model, sampler), strict=True) for name in values}  # fmt: skip
        return Case(self.names(), train, model, sampler, self.seeds(), places)

    def table(self, key: str) -> dict[str, Any]:
        value = self.content.get(key, {})
        if isinstance(value, dict):
            return value
        self.problem(f"{key} is {value!r}; it must be a table, such as {key} = {{ ... }}.", key)
        return {}

    def names(self) -> dict[str, list[str]]:
        """Whom the case is for, by kind; nothing where that is not clear."""
        kinds = self.content.get("for")
        if not isinstance(kinds, dict) or not kinds:
            got = f"for is {kinds!r}" if "for" in self.content else "this case lacks for"
            self.problem(f"{got}; say whom it is for, such as for = {{ dataset = 'cora', model = 'gcn' }}.", "for")
            return {}
        named = {}
        for kind, value in kinds.items():
            names = [value] if isinstance(value, str) else value
            if kind not in KINDS:
                self.problem(f"unknown key {kind!r} in for: {did_you_mean(kind, KINDS)}", "for", kind)
            elif not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
                self.problem(f"{kind} in for is {value!r}; it must be a name or a list of names.", "for", kind)
            else:
                named[kind] = names
                for number, name in enumerate(names):
                    if name not in self.known[kind]:
                        self.problem(f"it is for {kind} {name!r}, which is not in the comparison: "
                                     f"{did_you_mean(name, self.known[kind])}", "for", kind, number)  # fmt: skip
        return named if len(named) == len(kinds) else {}

    def seeds(self) -> list[int] | None:
        if "seeds" not in self.content:
            return None
        try:
            return parse_seeds(self.content["seeds"])
        except ValueError as error:
            self.problem(str(error), "seeds")
            return None
