"""What to compare: datasets × models × samplers × seeds, read from a TOML file and from flags."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from gnnscale.compare.cases import KINDS, Case, names_of, read_cases, settle
from gnnscale.compare.names import did_you_mean
from gnnscale.compare.parse import format_choice, parse_choice, parse_seeds, split_list, split_name
from gnnscale.compare.plan import Choice, Combination
from gnnscale.compare.settings import BUDGET, MODEL, PER_SAMPLER, TRAINING, problem_with
from gnnscale.data import dataset_names
from gnnscale.nn import MODELS
from gnnscale.nn.models import settings_of
from gnnscale.plugins import check_name, is_file_choice, offered, source_digest
from gnnscale.samplers import SAMPLERS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class SpecificationError(ValueError):
    """Everything that is wrong with a comparison, one sentence each in ``problems``."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(dict.fromkeys(problems))
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True)
class Specification:
    """A comparison as asked for; :func:`read_specification` makes one, and refuses what cannot work."""

    datasets: list[Choice]
    models: list[Choice]
    samplers: list[Choice]
    seeds: list[int]
    training: dict[str, Any]
    budget: dict[str, Any]
    out: Path
    data_dir: Path | None
    combinations: list[Combination] = field(default_factory=list)

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
        The file is not TOML, or has unknown keys, wrong values or unknown names: all of them are listed.

    Examples
    --------
    >>> flags = {"datasets": "synthetic", "samplers": "full,gas", "seeds": "2"}
    >>> specification = read_specification(None, flags)
    >>> [sampler.label for sampler in specification.samplers], specification.seeds
    (['full', 'gas'], [0, 1])
    """
    given = {name: value for name, value in flags.items() if value is not None}
    reader = _Reader(_read_toml(path) if path else {}, given, path)
    specification = reader.read()
    if reader.problems:
        raise SpecificationError(reader.problems)
    return specification


def _read_toml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no specification {str(path)!r}; give the path of a TOML file.")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpecificationError([f"{path} is not valid TOML: {error}."]) from None


class _Reader:
    """Reads one specification, gathering problems instead of stopping at the first."""

    KEYS = ("datasets", "models", "samplers", "seeds", "epochs", "out", "data_dir", "train", "budget", *KINDS, "case")

    def __init__(self, file: dict[str, Any], flags: dict[str, Any], path: Path | None) -> None:
        self.file, self.flags, self.path = file, flags, path
        self.known = {"dataset": set(dataset_names()), "model": set(MODELS), "sampler": {*SAMPLERS, *offered()}}
        self.problems: list[str] = []
        self.problems += [f"unknown key {key!r}: {did_you_mean(key, self.KEYS)}" for key in file
                          if key not in self.KEYS]  # fmt: skip

    def read(self) -> Specification:
        choices = {kind: self.choices(kind) for kind in KINDS}
        training, seeds = self.training(), self.seeds()
        cases = self.cases(choices)
        combinations = [
            settle(dict(zip(KINDS, three, strict=True)), training, seeds, cases, self.flags)
            for three in product(*choices.values())
        ]
        datasets, models, samplers = choices.values()
        return Specification(
            datasets, models, samplers, seeds, training, self.budget(), self.out(datasets), self.folder("data_dir"),
            combinations,
        )  # fmt: skip

    def cases(self, choices: dict[str, list[Choice]]) -> list[Case]:
        known = {kind: {name for choice in some for name in names_of(choice)} for kind, some in choices.items()}
        # A flag may leave out what a case is for, as it may what [sampler.gas] is for.
        for kind in KINDS:
            if kind + "s" in self.flags:
                whole = _Reader(self.file, {}, self.path)
                listed = whole.choices(kind) if kind != "dataset" or "datasets" in self.file else []
                known[kind] |= {name for choice in listed for name in names_of(choice)} or self.known[kind]
        return read_cases(
            self.file.get("case", []), known, choices["model"], self.problem_with_signature, self.problems
        )

    def check(self, name: str, value: Any, settings: Any, where: str = "") -> None:
        if problem := problem_with(name, value, settings, where):
            self.problems.append(problem)

    def table(self, *keys: str) -> dict[str, Any]:
        """The file's table under these keys; empty where it has none."""
        table: Any = self.file
        for key in keys:
            table = table.get(key, {})
            if not isinstance(table, dict):
                name = ".".join(keys)
                self.problems.append(f"{name} is {table!r}; it must be a table, headed by [{name}].")
                return {}
        return table

    def training(self) -> dict[str, Any]:
        table = self.table("train")
        for name in table:
            if name == "threads":
                self.problems.append("threads stands in [budget] now, and no more in [train]; move it there.")
            elif name not in TRAINING or name == "epochs":
                known = [name for name in TRAINING if name != "epochs"]
                self.problems.append(f"unknown key {name!r} in [train]: {did_you_mean(name, known)}")
        top = {"epochs": self.file["epochs"]} if "epochs" in self.file else {}
        values = {name: setting.default for name, setting in TRAINING.items()}
        chosen = {**table, **top, **{name: self.flags[name] for name in TRAINING if name in self.flags}}
        for name in TRAINING:
            if name in chosen:
                values[name] = chosen[name]
                self.check(name, chosen[name], TRAINING)
        return values

    def budget(self) -> dict[str, Any]:
        table = self.table("budget")
        self.problems += [f"unknown key {name!r} in [budget]: {did_you_mean(name, BUDGET)}"
                          for name in table if name not in BUDGET]  # fmt: skip
        chosen = {**table, **{name: self.flags[name] for name in BUDGET if name in self.flags}}
        for name in BUDGET:
            if name in chosen:
                self.check(name, chosen[name], BUDGET)
        return {name: chosen.get(name, setting.default) for name, setting in BUDGET.items()}

    def seeds(self) -> list[int]:
        try:
            return parse_seeds(self.flags.get("seeds", self.file.get("seeds", 1)))
        except ValueError as error:
            self.problems.append(str(error))
            return []

    def folder(self, key: str) -> Path | None:
        value = self.flags.get(key, self.file.get(key))
        if value is None or (isinstance(value, (str, Path)) and str(value)):
            return None if value is None else Path(value)
        self.problems.append(f"{key} is {value!r}; it must be the path of a folder.")
        return None

    def out(self, datasets: list[Choice]) -> Path:
        name = self.path.stem if self.path else "-".join(dataset.label for dataset in datasets)
        out = self.folder("out") or Path("runs") / (name or "compare")
        if out.exists() and not out.is_dir():
            self.problems.append(f"out is {str(out)!r}, which is a file; it must be the path of a folder.")
        return out

    def choices(self, kind: str) -> list[Choice]:
        key = kind + "s"
        value = self.flags.get(key, self.file.get(key))
        if value is None:
            if kind == "dataset":
                self.problems.append("no dataset is given: use --dataset, or datasets = [...] in a file.")
                return []
            value = ["gcn"] if kind == "model" else list(SAMPLERS)
        if isinstance(value, str):
            try:
                value = split_list(value)
            except ValueError as error:
                self.problems.append(str(error))
                return []
        if not isinstance(value, list) or not value or not all(isinstance(text, str) for text in value):
            self.problems.append(f"{key} is {value!r}; it must be a list of names.")
            return []
        self.check_tables(kind, value)
        choices = [choice for text in value if (choice := self.choice(kind, text))]
        return self.label(kind, choices)

    def check_tables(self, kind: str, texts: list[str]) -> None:
        """[sampler.gas] may stand for a sampler that a flag leaves out, but not for an unknown one."""
        known = self.known[kind] | {split_name(text)[0] for text in texts}
        for name, value in self.table(kind).items():
            if kind == "model" and name in MODEL and not isinstance(value, dict):
                self.check(name, value, MODEL, "[model] ")
            elif name not in known and not (kind == "sampler" and is_file_choice(name)):
                self.problems.append(f"unknown {kind} {name!r} in [{kind}.{name}]: {did_you_mean(name, known)}")

    def choice(self, kind: str, text: str) -> Choice | None:
        """A choice, labelled as it was written."""
        try:
            is_file = kind == "dataset" and Path(text).exists()
            name, own = (text, {}) if is_file else parse_choice(text)
        except ValueError as error:
            self.problems.append(f"{kind} {error}")
            return None
        is_path = _is_path(name) if kind == "dataset" else kind == "sampler" and is_file_choice(name)
        if name not in self.known[kind] and not is_path:
            self.problems.append(f"unknown {kind} {name!r}: {did_you_mean(name, self.known[kind])}")
            return None
        # Flags override the file; what stands in brackets is the most specific and overrides both.
        arguments = dict(self.table(kind, name)) if name in self.table(kind) else {}
        if kind == "model":
            shared = {key: value for key, value in self.table("model").items() if key in MODEL}
            defaults = {key: setting.default for key, setting in MODEL.items()}
            # Two layers of APPNP or GCNII would be other models than those of the papers.
            defaults["layers"] = settings_of(MODELS[name])["num_layers"]
            flags = {key: self.flags[key] for key in MODEL if key in self.flags}
            arguments = {**defaults, **shared, **arguments, **flags}
            self.check_arguments(name, {**arguments, **own}, MODEL)
            self.problems += self.problem_with_signature(name, {**arguments, **own})
        if kind == "sampler" and "num_layers" in {**arguments, **own}:
            self.problems.append(f"sampler {name} has no setting 'num_layers': it follows from the model's layers.")
        if kind == "dataset" and "split" in {**arguments, **own}:
            self.problems.append(f"dataset {name} has no setting 'split': the split follows from the seed.")
        if kind == "sampler":
            arguments = {key: value for key, value in arguments.items()
                         if key not in PER_SAMPLER or key not in self.flags}  # fmt: skip
            self.check_arguments(name, {**arguments, **own}, {key: TRAINING[key] for key in PER_SAMPLER})
        choice = Choice(name, {**arguments, **own}, format_choice(name, own), brackets=own)
        return self.located(choice) if kind == "sampler" else choice

    def located(self, sampler: Choice) -> Choice | None:
        """The sampler with the place and the digest of its file. No code of others runs here, only in the cells."""
        try:
            check_name(sampler.name)
            digest = source_digest(sampler.name)
        except (ValueError, OSError) as error:
            self.problems.append(f"{error}.")
            return None
        if not is_file_choice(sampler.name):
            return replace(sampler, digest=digest)
        path, _, class_name = sampler.name.rpartition(":")
        return replace(sampler, name=f"{Path(path).resolve()}:{class_name}", digest=digest)

    def check_arguments(self, name: str, arguments: dict[str, Any], settings: Any) -> None:
        for key, value in arguments.items():
            if key in settings:
                self.check(key, value, settings, f"{name}: ")

    def problem_with_signature(self, name: str, arguments: dict[str, Any]) -> list[str]:
        """A sentence for each argument that the model's constructor does not know."""
        known = set(MODEL) | (set(settings_of(MODELS[name])) - {"num_layers"})
        return [f"model {name} has no setting {key!r}: {did_you_mean(key, known)}"
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
        self.problems += [
            f"{kind} {label} is given {count} times; give each once." for label, count in counts.items() if count > 1
        ]
        return labelled


def _is_path(text: str) -> bool:
    return "/" in text or "\\" in text or "." in text or Path(text).exists()
