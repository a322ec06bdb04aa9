"""Where each key of a TOML document stands: the standard library's parser gives values and no lines.

The document has been parsed before, so that this looks for places and never for mistakes.
"""

from __future__ import annotations

import re
import sys
from bisect import bisect_right
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Path = tuple["str | int", ...]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
# Of three quotes, and up to two more that belong to the text; of one.
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?:"{0,2})' r"|'''.*?'''(?:'{0,2})" r'|"(?:\\.|[^"\\])*"' r"|'[^']*'", re.DOTALL
)
# A date may stand apart from its time.
_PLAIN = re.compile(r"\d{4}-\d\d-\d\d \d\d:[^\s,\]}#]*|[^\s,\]}#]+")


def locate(text: str) -> dict[Path, int]:
    """The line of each key, and of each entry of an array.

    Parameters
    ----------
    text : str
        A valid TOML document.

    Returns
    -------
    dict of tuple to int
        Lines, from 1, by path: keys of tables, and numbers of entries from 0. A table that is headed several times,
        or never, has the line where it is first mentioned.

    Examples
    --------
    >>> locate('[train]\\nlr = 0.1\\n[[case]]\\nseeds = [\\n  4,\\n]')[("case", 0, "seeds", 0)]
    5
    """
    return _Scanner(text).scan()


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self.newlines = [match.start() for match in re.finditer("\n", text)]
        self.lines: dict[Path, int] = {}
        self.tables: dict[Path, int] = {}  # entries so far of each array of tables

    def scan(self) -> dict[Path, int]:
        header: Path = ()
        self.skip(_BLANK)
        while self.at < len(self.text):
            if self.text.startswith("[", self.at):
                header = self.header()
            else:
                self.pair(header)
            self.skip(_BLANK)
        return self.lines

    def skip(self, pattern: re.Pattern[str]) -> str:
        """Go past what the pattern matches here; at least one character where it matches nothing that has to be."""
        match = pattern.match(self.text, self.at)
        self.at = match.end() if match else self.at + 1
        return match.group() if match else ""

    def note(self, *path: str | int) -> None:
        self.lines.setdefault(path, bisect_right(self.newlines, self.at - 1) + 1)

    def header(self) -> Path:
        """``[a.b]``, or ``[[a.b]]``, whose entries are numbered; names before the last mean an array's newest entry."""
        is_array = self.text.startswith("[[", self.at)
        self.at += 1 + is_array
        keys = self.keys()
        path: Path = ()
        for number, key in enumerate(keys, 1):
            path = (*path, key)
            self.note(*path)
            if number == len(keys) and is_array:
                self.tables[path] = self.tables.get(path, 0) + 1
            if path in self.tables:
                path = (*path, self.tables[path] - 1)
                self.note(*path)
        self.skip(_SPACE)
        self.at += 1 + is_array
        return path

    def keys(self) -> list[str]:
        """``a."b c".d``"""
        keys = []
        while True:
            self.skip(_SPACE)
            if self.text[self.at : self.at + 1] in ('"', "'"):
                keys.append(_decoded(self.skip(_STRING)))
            else:
                keys.append(self.skip(_BARE_KEY))
            self.skip(_SPACE)
            if not self.text.startswith(".", self.at):
                return keys
            self.at += 1

    def pair(self, table: Path) -> None:
        keys = self.keys()
        for number in range(1, len(keys) + 1):
            self.note(*table, *keys[:number])
        self.at += 1  # past the equals sign
        self.skip(_SPACE)
        self.value((*table, *keys))

    def value(self, path: Path) -> None:
        first = self.text[self.at : self.at + 1]
        if first == "[":
            self.entries(path, "]")
        elif first == "{":
            self.entries(path, "}")
        else:
            self.skip(_STRING if first in ('"', "'") else _PLAIN)

    def entries(self, path: Path, closing: str) -> None:
        self.at += 1
        number = 0
        while self.at < len(self.text):
            self.skip(_BLANK)
            if self.text.startswith(closing, self.at):
                break
            if self.text.startswith(",", self.at):
                self.at += 1
            elif closing == "}":
                self.pair(path)
            else:
                self.note(*path, number)
                self.value((*path, number))
                number += 1
        self.at += 1


def _decoded(quoted: str) -> str:
    value: Any = tomllib.loads(f"x = {quoted}")["x"]
    return value
