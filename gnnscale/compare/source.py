"""The content of a specification: a TOML file as flags change it, and the place where each of its keys was given."""

from __future__ import annotations

import copy
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gnnscale.compare import locate
from gnnscale.compare.settings import BUDGET, MODEL, PER_SAMPLER, TRAINING

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: The flags whose name is not that of the key.
_FLAGS = {"datasets": "--dataset", "models": "--model"}


class SpecificationError(ValueError):
    """Everything that is wrong with a comparison, one sentence each in ``problems``, with the place where it stands."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(dict.fromkeys(problems))
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True)
class Places:
    """Where the keys of a specification were given: on a line of a file, or by a flag.

    Examples
    --------
    >>> places = Places("trial.toml", {("train",): 3, ("train", "lr"): 4}, {("train", "lr"): "--lr"})
    >>> places.of("train", "lr"), places.of("train", "epochs"), places.of("out")
    ('--lr: ', 'trial.toml:3: ', 'trial.toml: ')
    """

    file: str = ""
    lines: Mapping[tuple[str | int, ...], int] = field(default_factory=dict)
    flags: Mapping[tuple[str | int, ...], str] = field(default_factory=dict)

    def of(self, *path: str | int) -> str:
        """What a sentence about a key begins with: its place, or that of the table that it would stand in."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.flags:
                return f"{self.flags[path[:end]]}: "
            if path[:end] in self.lines:
                return f"{self.file}:{self.lines[path[:end]]}: "
        return f"{self.file}: " if self.file else ""

    def line_of(self, sentence: str) -> int:
        """The line of the file that a sentence begins with; 0 for a flag, or the file as a whole."""
        line = sentence.removeprefix(f"{self.file}:").partition(": ")[0]
        return int(line) if line.isdecimal() else 0


def read_toml(path: Path) -> tuple[dict[str, Any], Places]:
    """Read a file, and where its keys stand.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    SpecificationError
        It is not TOML.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no specification {str(path)!r}; give the path of a TOML file.")
    try:
        text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise SpecificationError([f"{path}:{line}: this is not text in UTF-8; save the file as UTF-8."]) from None
    try:
        return tomllib.loads(text), Places(str(path), locate.locate(text))
    except tomllib.TOMLDecodeError as error:
        raise SpecificationError([_not_toml(str(path), text, str(error))]) from None
    except RecursionError:
        raise SpecificationError([f"{path}: its arrays or tables are nested too deeply to be read."]) from None


def _not_toml(file: str, text: str, message: str) -> str:
    lines = text.split("\n")
    found = re.search(r" \(at line (\d+), column (\d+)\)$", message)
    line = int(found.group(1)) if found else len(lines)
    reason = message[: found.start()] + f" (column {found.group(2)})" if found else message
    key, equals, _ = lines[min(line, len(lines)) - 1].partition("=")
    if message.startswith("Cannot overwrite a value") and equals:
        reason = f"{key.strip()} is given twice"
    if (twice := re.match(r"Cannot declare \((.*?),?\) twice", message)) is not None:
        names = twice.group(1).replace("'", "").split(", ")
        reason = f"the table {'.'.join(names)} is headed twice"
        # The likeliest slip: sampler = [...] at the top, where samplers is meant.
        for number, earlier in enumerate(lines[: line - 1], 1):
            if re.match(rf"\s*{re.escape(names[0])}\s*=", earlier):
                reason = f"{names[0]} has a value in line {number}, so that [{'.'.join(names)}] cannot be a table"
                reason += f"; is {names[0]}s meant there" if names[0] in ("dataset", "model", "sampler") else ""
    return f"{file}:{line}: this is not valid TOML: {reason}."


def override(file: Mapping[str, Any], flags: Mapping[str, Any], places: Places) -> tuple[dict[str, Any], Places]:
    """Put flags into the content of a file, and take out what they override, in cases too.

    Parameters
    ----------
    file : mapping
        As it was read; nothing of it is known to be right.
    flags : mapping of str to object
        Those that were given.
    places : Places
        Those of the file.

    Returns
    -------
    tuple of (dict, Places)
        What a file that says the same without flags would hold, and the places with those of the flags.
    """
    content = copy.deepcopy(dict(file))
    given: dict[tuple[str | int, ...], str] = {}
    homes: dict[str, tuple[str, ...]] = {
        **{name: ("train", name) for name in TRAINING},
        **{name: ("model", name) for name in MODEL},
        **{name: ("budget", name) for name in BUDGET},
        "epochs": ("epochs",),
    }
    for name, value in flags.items():
        *tables, key = path = homes.get(name, (name,))
        table: Any = content
        for each in tables:
            table = table.setdefault(each, {})
        if isinstance(table, dict):
            table[key] = str(value) if isinstance(value, Path) else value
            given[path] = _FLAGS.get(name, "--" + name.replace("_", "-"))
    cases = [case for case in _list(content.get("case")) if isinstance(case, dict)]
    for case in cases:
        if "seeds" in flags:
            case.pop("seeds", None)
        _take_out(case.get("train"), flags)
        _take_out(case.get("model"), set(MODEL) & set(flags))
    for table in [*_values(content.get("sampler")), *(case.get("sampler") for case in cases)]:
        _take_out(table, set(PER_SAMPLER) & set(flags))
    for table in _values(content.get("model")):
        _take_out(table, set(MODEL) & set(flags))
    return content, Places(places.file, places.lines, given)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _values(table: Any) -> list[Any]:
    return list(table.values()) if isinstance(table, dict) else []


def _take_out(table: Any, names: Iterable[str]) -> None:
    if isinstance(table, dict):
        for name in names:
            table.pop(name, None)
