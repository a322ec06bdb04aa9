"""Everything that the page shows, as data that JSON can hold."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gnnscale._version import __version__
from gnnscale.compare.draw_stages import LOOK, WORDS, stages_of
from gnnscale.compare.page import curves
from gnnscale.compare.page import folder as files
from gnnscale.compare.plots import dashes, styles
from gnnscale.compare.statistics import paired, places
from gnnscale.compare.summary import RUN, summarise

#: Settings that say which cell this is; they are not what its run was set to.
_IDENTITY = {"dataset", "model", "sampler", "seed", "split", "data", "sampler_digest"}

#: Matplotlib's markers in plotly's words.
_MARKERS = {
    "o": "circle", "s": "square", "^": "triangle-up", "v": "triangle-down", "<": "triangle-left", ">": "triangle-right",
    "D": "diamond", "d": "diamond-tall", "P": "cross", "X": "x", "*": "star", "p": "pentagon", "h": "hexagon2",
    "H": "hexagon", "8": "octagon",
}  # fmt: skip


def content(
    results: pd.DataFrame, folder: Path, *, target: float | None = None, count_preparation: bool = False
) -> dict[str, Any]:
    """Gather what the page shows.

    Parameters
    ----------
    results : pandas.DataFrame
        Rows as in results.parquet.
    folder : Path
        Folder of the comparison, with its figures and logs.
    target : float, optional
        Validation metric that time to target is measured at.
    count_preparation : bool
        Whether times begin with the preparation.

    Returns
    -------
    dict
        Of lists, dicts, strings, finite numbers, booleans and None alone.
    """
    summary = summarise(results, target=target, count_preparation=count_preparation)
    samplers = [str(name) for name in dict.fromkeys(results["sampler"])]
    return {
        "title": folder.resolve().name,
        "version": __version__,
        "styles": {name: _look(style) for name, style in styles(samplers).items()},
        "panels": curves.panels(results, target),
        "runs": curves.runs(results),
        "count_preparation": count_preparation,
        "places": int(places(results.drop_duplicates(RUN)).nunique()),
        "summary": _records(summary),
        "stages": {name: {"words": WORDS[name], "color": color} for name, (color, _) in LOOK.items()},
        "by_stage": [
            {name: float(seconds) for name, seconds in stages_of(row).items() if seconds > 0} for row in _rows(summary)
        ],
        "paired": _records(paired(results)),
        "failures": files.failures(results, folder),
        "machines": machines(results),
        "settings": settings(results),
        "specification": files.specification(folder),
        "figures": files.figures(folder),
    }


def machines(results: pd.DataFrame) -> list[dict[str, Any]]:
    """List the different machines of the runs, each with the number of its runs and the commands given on it."""
    texts = results.drop_duplicates(RUN).get("machine", pd.Series(dtype=object))
    found: dict[str, dict[str, Any]] = {}
    for text in texts[texts.notna()]:
        facts = json.loads(text)
        command = facts.pop("command", None)
        changed = facts.pop("changed", None)
        if changed and facts.get("commit"):
            facts["commit"] += ", changed"
        one = found.setdefault(json.dumps(facts), {"runs": 0, "facts": _flat(facts), "commands": []})
        one["runs"] += 1
        if command and command not in one["commands"]:
            one["commands"].append(command)
    return list(found.values())


def settings(results: pd.DataFrame) -> dict[str, Any]:
    """Tell the settings that all runs have in common from those that samplers have for themselves."""
    rows = _rows(results.drop_duplicates(RUN[:3])[[*RUN[:3], "settings"]])
    each = [
        _flat({key: value for key, value in json.loads(row["settings"]).items() if key not in _IDENTITY})
        for row in rows
    ]
    keys = list(dict.fromkeys(key for one in each for key in one))
    common = {key: each[0][key] for key in keys if all(one.get(key) == each[0].get(key) for one in each)}
    set_where: dict[tuple[str, str], list[str]] = {}
    for row, one in zip(rows, each, strict=True):
        text = ", ".join(f"{key} {value}" for key, value in one.items() if key not in common)
        set_where.setdefault((row["sampler"], text), []).append(f"{row['dataset']} {row['model']}")
    everywhere = Counter(row["sampler"] for row in rows)
    alike: dict[tuple[str, str], list[str]] = {}
    for (sampler, text), where in set_where.items():
        key = text, "" if len(where) == everywhere[sampler] else ", ".join(where)
        alike.setdefault(key, []).append(sampler)
    own = [{"samplers": samplers, "where": where, "text": text} for (text, where), samplers in alike.items()]
    return {"common": common, "own": own}


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Texts by name, named as in a specification: ``lr``, ``model.hidden``, ``sampler.num_parts``."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            inner = "" if key == "training" else f"{prefix}{key.removesuffix('_arguments')}."
            flat |= _flat(value, inner)
        elif value is not None:
            flat[prefix + key] = value if isinstance(value, str) else json.dumps(value)
    return flat


def _look(style: dict[str, Any], width: int = 2) -> dict[str, Any]:
    """A style of the figures in plotly's words, for lines of this width."""
    dash = ",".join(f"{width * length:g}px" for length in dashes(style)) or "solid"
    return {"color": style["color"], "dash": dash, "marker": _MARKERS[style["marker"]]}


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{key: _plain(value) for key, value in row.items()} for row in _rows(frame)]


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value is pd.NaT or value is pd.NA or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value if isinstance(value, (str, int, float, bool)) else str(value)
