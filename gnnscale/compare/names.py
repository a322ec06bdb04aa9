"""Says what a name that nobody knows may have been meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The nearest known name, if one is near, and all of them.

    Examples
    --------
    >>> did_you_mean("neighbour", ["neighbor", "full"])
    "did you mean 'neighbor'? Known: full, neighbor."
    """
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1)
    guess = f"did you mean {near[0]!r}? " if near else ""
    return f"{guess}Known: {', '.join(names)}."
