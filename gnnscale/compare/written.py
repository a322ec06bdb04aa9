"""A comparison as a TOML file that says all of it: what was in the file, the flags, and the defaults."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tomli_w

from gnnscale.compare.results import write_whole
from gnnscale.compare.specification import Specification


def specification_toml(specification: Specification, cases: Iterable[dict[str, Any]] = ()) -> str:
    """Write what :func:`~gnnscale.compare.specification.read_specification` reads back to an equal specification.

    Paths stay as they were given: relative ones to the folder where the command was called.

    Parameters
    ----------
    specification : Specification
    cases : iterable of dict
        ``[[case]]`` tables to be added at the end, where they override the others.

    Returns
    -------
    str
        A TOML document.

    Examples
    --------
    >>> from gnnscale.compare.specification import read_specification
    >>> specification = read_specification(None, {"datasets": "synthetic", "samplers": "full", "lr": 0.1})
    >>> print("\\n".join(specification_toml(specification).splitlines()[:3]))
    datasets = [
        "synthetic",
    ]
    """
    content = dict(specification.content)
    # The cores may have been shared among the cells meanwhile.
    content["budget"] = {name: value for name, value in specification.budget.items() if value is not None}
    if added := [*content.get("case", []), *cases]:
        content["case"] = added
    return tomli_w.dumps({key: value for key, value in content.items() if value not in ({}, [])})


def write_specification(specification: Specification, path: Path, cases: Iterable[dict[str, Any]] = ()) -> None:
    """Write :func:`specification_toml`; the file appears whole or not at all."""
    text = specification_toml(specification, cases)
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
