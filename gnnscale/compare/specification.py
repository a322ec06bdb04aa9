"""What to compare: datasets × models × samplers × seeds, read from a TOML file and from flags."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from gnnscale.compare.cases import KINDS, Case, names_of, only_for, read_cases, says_something, settle
from gnnscale.compare.impossible import impossible
from gnnscale.compare.names import did_you_mean
from gnnscale.compare.parse import format_choice, parse_choice, parse_seeds, split_list, split_name
from gnnscale.compare.plan import Choice, Combination
from gnnscale.compare.settings import BUDGET, MODEL, PER_SAMPLER, TRAINING, Setting, problem_with
from gnnscale.compare.source import Places, SpecificationError, override, read_toml
from gnnscale.data import dataset_names, unknown_options
from gnnscale.nn import MODELS
from gnnscale.nn.models import settings_of
from gnnscale.plugins import absolute_choice, check_name, is_file_choice, offered, source_digest
from gnnscale.samplers import SAMPLERS

__all__ = ["Specification", "SpecificationError", "read_specification"]


@dataclass(frozen=True)
class Specification:
    """A comparison as asked for; :func:`read_specification` makes one, and refuses what cannot work.

    ``tune`` is the file's table of that name as it stands there. ``content`` is a specification file's content that
    says the same without flags or defaults, and ``places`` tells where each key of it was given.
    """

    datasets: list[Choice]
    models: list[Choice]
    samplers: list[Choice]
    seeds: list[int]
    training: dict[str, Any]
    budget: dict[str, Any]
    out: Path
    data_dir: Path | None
    combinations: list[Combination] = field(default_factory=list)
    tune: dict[str, Any] = field(default_factory=dict)
    content: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    places: Places = field(default_factory=Places, compare=False, repr=False)

    def combinations_of(self, dataset: Choice) -> list[Combination]:
        """Those of one dataset, in the order of the models and samplers."""
        return [combination for combination in self.combinations if combination.dataset.label == dataset.label]


def read_specification(path: Path | None, flags: Mapping[str, Any]) -> Specification:
    """Read a specification file, let flags override it, and refuse everything wrong with it at once.

    Parameters
    ----------
    path : Path or None
        A TOML file; None where the flags say everything.
    flags : mapping of str to object
        ``datasets``, ``models``, ``samplers``, ``seeds`` (text, as in the command line), ``out``,
        ``data_dir``, and the settings of :data:`~gnnscale.compare.settings.TRAINING`,
        :data:`~gnnscale.compare.settings.MODEL` and :data:`~gnnscale.compare.settings.BUDGET`. Those that are None
        were not given.

    Returns
    -------
    Specification

    Raises
    ------
    FileNotFoundError
        There is no such file.
    SpecificationError
        The file is not TOML, or has unknown keys, wrong values, unknown names or combinations that cannot work: all of
        them are listed, each with its line or flag.

    Examples
    --------
    >>> flags = {"datasets": "synthetic", "samplers": "full,gas", "seeds": "2"}
    >>> specification = read_specification(None, flags)
    >>> [sampler.label for sampler in specification.samplers], specification.seeds
    (['full', 'gas'], [0, 1])
    """
    specification, problems = read_with_problems(path, flags)
    if problems:
        raise SpecificationError(sorted(problems, key=specification.places.line_of))
    return specification


def read_with_problems(path: Path | None, flags: Mapping[str, Any]) -> tuple[Specification, list[str]]:
    """As :func:`read_specification`, but what is wrong comes back beside what is there without it."""
    given = {name: value for name, value in flags.items() if value is not None}
    file, places = read_toml(path) if path else ({}, Places())
    content, places = override(file, given, places)
    reader = _Reader(content, places)
    return reader.read(file, path.stem if path else None), reader.problems


class _Reader:
    """Reads one specification, gathering problems instead of stopping at the first.

    What is wrong is told and left out, as if it had not been given, so that the rest can be judged as well.
    """

    KEYS = ("datasets", "models", "samplers", "seeds", "epochs", "out", "data_dir", "train", "budget", *KINDS, "case",
            "tune")  # fmt: skip

    def __init__(self, content: dict[str, Any], places: Places) -> None:
        self.content, self.places = content, places
        self.known = {"dataset": set(dataset_names()), "model": set(MODELS), "sampler": {*SAMPLERS, *offered()}}
        self.problems: list[str] = []

    def problem(self, sentence: str, *path: str | int) -> None:
        """Note what is wrong with a key."""
        self.problems.append(self.places.of(*path) + sentence)

    def read(self, file: Mapping[str, Any], name: str | None) -> Specification:
        """Read everything. ``file`` is the content before flags, and ``name`` the file's."""
        for key in self.content:
            if key not in self.KEYS:
                self.problem(f"unknown key {key!r}: {did_you_mean(key, self.KEYS)}", key)
        choices = {kind: self.choices(kind) for kind in KINDS}
        training, seeds, budget = self.training(), self.seeds(), self.settings("budget", BUDGET)
        cases = self.cases(choices, file)
        places = self.places_of_training()
        combinations = [
            settle(dict(zip(KINDS, three, strict=True)), training, seeds, cases, places)
            for three in product(*choices.values())
        ]
        self.problems += impossible(combinations, budget, self.places)
        datasets, models, samplers = choices.values()
        default = Path("runs") / (name or "-".join(dataset.label for dataset in datasets) or "compare")
        out, data_dir = self.out(default), self.data_dir()
        self.fill_in(models, seeds, training, out)
        return Specification(
            datasets, models, samplers, seeds, training, budget, out, data_dir, combinations,
            self.table("tune"), self.content, self.places,
        )  # fmt: skip

    def cases(self, choices: dict[str, list[Choice]], file: Mapping[str, Any]) -> list[Case]:
        compared = {kind: {name for choice in some for name in names_of(choice)} for kind, some in choices.items()}
        known = {kind: set(names) for kind, names in compared.items()}
        # A flag may leave out what a case is for, as it may what [sampler.gas] is for.
        for kind in KINDS:
            if (kind + "s",) in self.places.flags:
                whole = _Reader(dict(file), self.places)
                listed = whole.choices(kind) if kind != "dataset" or "datasets" in file else []
                known[kind] |= {name for choice in listed for name in names_of(choice)} or self.known[kind]
        for number, table in enumerate(file["case"] if isinstance(file.get("case"), list) else []):
            if isinstance(table, dict) and not says_something(table):
                self.problem("this case says nothing; give it seeds, train, model or sampler, or take it out.",
                             "case", number)  # fmt: skip
        cases = read_cases(
            self.content.get("case", []), known, choices["model"], self.unknown_settings, self.problem, self.places
        )
        if "case" in self.content and not self.problems:
            self.content["case"] = only_for(compared, self.content["case"])
        return cases

    def table(self, *keys: str) -> dict[str, Any]:
        """The table under these keys; empty where there is none."""
        table: Any = self.content
        for number, key in enumerate(keys, 1):
            table = table.get(key, {})
            if not isinstance(table, dict):
                name = ".".join(keys[:number])
                self.problem(f"{name} is {table!r}; it must be a table, headed by [{name}].", *keys[:number])
                return {}
        return table

    def check(self, name: str, value: Any, settings: Mapping[str, Setting], *path: str | int) -> bool:
        problem = problem_with(name, value, settings)
        if problem:
            self.problem(problem, *path)
        return not problem

    def settings(self, key: str, settings: Mapping[str, Setting]) -> dict[str, Any]:
        """The values of a table of settings, defaults included."""
        table = self.table(key)
        values = {name: setting.default for name, setting in settings.items()}
        for name, value in table.items():
            if name in settings:
                if self.check(name, value, settings, key, name):
                    values[name] = value
            elif (key, name) == ("train", "threads"):
                self.problem("threads stands in [budget] now, and no more in [train]; move it there.", key, name)
            else:
                self.problem(f"unknown key {name!r} in [{key}]: {did_you_mean(name, settings)}", key, name)
        return values

    def training(self) -> dict[str, Any]:
        epochs = self.content.get("epochs", TRAINING["epochs"].default)
        if not self.check("epochs", epochs, TRAINING, "epochs"):
            epochs = math.inf  # no other rule is to be blamed for an end that nobody knows
        others = {name: setting for name, setting in TRAINING.items() if name != "epochs"}
        return {"epochs": epochs, **self.settings("train", others)}

    def places_of_training(self) -> dict[str, str]:
        given = {name: self.places.of("train", name) for name in self.table("train")}
        return {**given, "epochs": self.places.of("epochs")} if "epochs" in self.content else given

    def seeds(self) -> list[int]:
        try:
            return parse_seeds(self.content.get("seeds", 1))
        except ValueError as error:
            self.problem(str(error), "seeds")
            return []

    def folder(self, key: str) -> Path | None:
        value = self.content.get(key)
        if value is None or (isinstance(value, str) and value):
            return None if value is None else Path(value)
        self.problem(f"{key} is {value!r}; it must be the path of a folder.", key)
        return None

    def data_dir(self) -> Path | None:
        folder = self.folder("data_dir")
        if folder is not None and not folder.expanduser().is_dir():
            self.problem(f"data_dir {folder} is not a folder; give the folder that holds the files.", "data_dir")
        return folder

    def out(self, default: Path) -> Path:
        out = self.folder("out") or default
        there = next((path for path in (out, *out.absolute().parents) if path.exists()), Path("/"))
        if not there.is_dir():
            part = "which" if there == out else f"and {str(there)!r}"
            self.problem(f"out is {str(out)!r}, {part} is a file; it must be the path of a folder.", "out")
        elif not os.access(there, os.W_OK | os.X_OK):
            self.problem(f"out is {str(out)!r}, and you may not write to {str(there)!r}; name another folder.", "out")
        return out

    def choices(self, kind: str) -> list[Choice]:
        key = kind + "s"
        value = self.content.get(key)
        if value is None:
            if kind == "dataset":
                self.problem("no dataset is given: use --dataset, or datasets = [...] in a file.", key)
                return []
            value = ["gcn"] if kind == "model" else list(SAMPLERS)
        if isinstance(value, str):
            try:
                value = split_list(value)
            except ValueError as error:
                self.problem(str(error), key)
                return []
        if not isinstance(value, list) or not value:
            self.problem(f"{key} is {value!r}; it must be a list of names.", key)
            return []
        self.content[key] = value
        for i, text in enumerate(value):
            if not isinstance(text, str):
                self.problem(f"{key} has {text!r}; each must be a name in quotes.", key, i)
        texts = {i: text for i, text in enumerate(value) if isinstance(text, str)}
        self.check_tables(kind, texts.values())
        choices = [choice for i, text in texts.items() if (choice := self.choice(kind, text, i))]
        return self.label(kind, choices)

    def check_tables(self, kind: str, texts: Iterable[str]) -> None:
        """[sampler.gas] may stand for a sampler that a flag leaves out, but not for an unknown one."""
        known = self.known[kind] | {split_name(text)[0] for text in texts}
        for name, value in self.table(kind).items():
            if kind == "model" and name in MODEL and not isinstance(value, dict):
                self.check(name, value, MODEL, kind, name)
            elif name not in known and not (kind == "sampler" and is_file_choice(name)):
                self.problem(f"unknown {kind} {name!r} in [{kind}.{name}]: {did_you_mean(name, known)}", kind, name)

    def choice(self, kind: str, text: str, number: int) -> Choice | None:
        """A choice, labelled as it was written."""
        here = (kind + "s", number)
        try:
            is_file = kind == "dataset" and Path(text).exists()
            name, own = (text, {}) if is_file else parse_choice(text)
        except (ValueError, OSError) as error:  # such as a name that is too long for a file's
            self.problem(f"{kind} {error}", *here)
            return None
        is_path = _is_path(name) if kind == "dataset" else kind == "sampler" and is_file_choice(name)
        if name not in self.known[kind] and not is_path:
            self.problem(f"unknown {kind} {name!r}: {did_you_mean(name, self.known[kind])}", *here)
            return None
        # What stands in brackets is the most specific, and overrides tables and flags.
        arguments = dict(self.table(kind, name)) if name in self.table(kind) else {}
        defaults: dict[str, Any] = {}
        paths: dict[str, tuple[str | int, ...]] = {key: (kind, name, key) for key in arguments}
        if kind == "model":
            shared = {key: value for key, value in self.table("model").items() if key in MODEL}
            paths = {**{key: (kind, key) for key in shared}, **paths}
            defaults = {key: setting.default for key, setting in MODEL.items()}
            # Two layers of APPNP or GCNII would be other models than those of the papers.
            defaults["layers"] = settings_of(MODELS[name])["num_layers"]
            arguments = {**defaults, **shared, **arguments}
        arguments, paths = {**arguments, **own}, {**paths, **dict.fromkeys(own, here)}
        wrong = set()
        for key, sentence in self.problems_with_arguments(kind, name, arguments):
            wrong.add(key)
            if paths[key] != (kind, key):  # [model] is checked once for all models
                self.problem(sentence, *paths[key])
        arguments = {**defaults, **{key: value for key, value in arguments.items() if key not in wrong}}
        brackets = {key: value for key, value in own.items() if key not in wrong}
        choice = Choice(
            name, arguments, format_choice(name, own), brackets=brackets, place=self.places.of(*here),
            places={key: self.places.of(*path) for key, path in paths.items()},
        )  # fmt: skip
        return self.located(choice, here) if kind == "sampler" else choice

    def problems_with_arguments(self, kind: str, name: str, arguments: dict[str, Any]) -> list[tuple[str, str]]:
        """Arguments that a choice cannot have, each with a sentence."""
        own = {"dataset": {}, "model": MODEL, "sampler": {key: TRAINING[key] for key in PER_SAMPLER}}[kind]
        found = [(key, problem) for key, value in arguments.items() if key in own
                 if (problem := problem_with(key, value, own, f"{name}: "))]  # fmt: skip
        if kind == "model":
            found += self.unknown_settings(name, arguments)
        elif kind == "sampler" and "num_layers" in arguments:
            found.append(("num_layers", f"sampler {name} has no setting 'num_layers': it follows from the model's "
                                        "layers."))  # fmt: skip
        elif kind == "dataset":
            if "split" in arguments:
                found.append(("split", f"dataset {name} has no setting 'split': the split follows from the seed."))
            found += unknown_options(name, arguments.keys() - {"split"})
        return found

    def located(self, sampler: Choice, here: tuple[str | int, ...]) -> Choice | None:
        """The sampler with the place and the digest of its file. No code of others runs here, only in the cells."""
        try:
            check_name(sampler.name)
            digest = source_digest(sampler.name)
        except (ValueError, OSError) as error:
            self.problem(f"{error}.", *here)
            return None
        return replace(sampler, name=absolute_choice(sampler.name), digest=digest)

    def unknown_settings(self, name: str, arguments: dict[str, Any]) -> list[tuple[str, str]]:
        """Arguments that the model's constructor does not know, each with a sentence."""
        known = set(MODEL) | (set(settings_of(MODELS[name])) - {"num_layers"})
        return [(key, f"model {name} has no setting {key!r}: {did_you_mean(key, known)}")
                for key in arguments if key not in known]  # fmt: skip

    def label(self, kind: str, choices: list[Choice]) -> list[Choice]:
        """Plain names where they tell the choices apart, else names with arguments, else all that was written."""
        plain = [choice.short_name for choice in choices]
        if kind == "dataset":
            plain = [Path(name).stem if _is_path(name) else name for name in plain]
        detailed = [format_choice(name, choice.brackets) for name, choice in zip(plain, choices, strict=True)]
        labelled = []
        for i, choice in enumerate(choices):
            unique = (names[i] for names in (plain, detailed) if names.count(names[i]) == 1)
            labelled.append(replace(choice, label=next(unique, choice.label)))
        counts = Counter(choice.label for choice in labelled)
        last = {choice.label: choice.place for choice in labelled}
        self.problems += [
            f"{last[label]}{kind} {label} is given {count} times; give each once."
            for label, count in counts.items() if count > 1
        ]  # fmt: skip
        return labelled

    def fill_in(self, models: list[Choice], seeds: list[int], training: dict[str, Any], out: Path) -> None:
        """Write the defaults into the content, so that it says all by itself."""
        if self.problems:
            return
        self.content.update(seeds=seeds, epochs=training["epochs"], out=str(out))
        train = self.content.setdefault("train", {})
        for name, value in training.items():
            if value is not None and name != "epochs":
                train.setdefault(name, value)
        shared = self.content.setdefault("model", {})
        if "layers" not in shared:
            for model in models:
                shared.setdefault(model.name, {}).setdefault("layers", settings_of(MODELS[model.name])["num_layers"])
        for name, setting in MODEL.items():
            if name != "layers":
                shared.setdefault(name, setting.default)


def _is_path(text: str) -> bool:
    return "/" in text or "\\" in text or "." in text or Path(text).exists()
