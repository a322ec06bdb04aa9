"""Puts the results of several comparisons together: each cell once, and one name for one thing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from gnnscale.compare.parse import format_choice, parse_choice
from gnnscale.compare.results import concatenate, read_results
from gnnscale.compare.settings import BUDGET_OF_RESULT, TRAINING
from gnnscale.compare.statistics import places
from gnnscale.compare.summary import RUN

LABELS = ["dataset", "model", "sampler"]

#: Where the arguments of each kind of label stand in a cell's settings, and what no argument tells.
_ARGUMENTS = {"dataset": ("dataset_arguments",), "model": ("model_arguments",),
              "sampler": ("sampler_arguments", "training", "budget")}  # fmt: skip
_CONTENT = {"dataset": ("data",), "model": ("model",), "sampler": ("sampler", "sampler_digest")}

_DEFAULTS = {name: setting.default for name, setting in TRAINING.items()}


def merge(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Merge the results of several runs or machines.

    A cell that is in several parts is taken once: a finished one rather than a failed one, the newer of two, and of
    two that do not tell when they began the one of the later part. Where one label has different settings in two
    parts, what differs is added to the label: ``gcn`` becomes ``gcn(layers=2)`` and ``gcn(layers=4)``.

    Parameters
    ----------
    parts : sequence of pandas.DataFrame
        Rows as in results.parquet.

    Returns
    -------
    pandas.DataFrame
        Rows as in results.parquet, runs in the order of the parts.

    Raises
    ------
    ValueError
        One label has different things in two parts that no argument tells apart, such as the data of a file.
    """
    if not parts:
        raise ValueError("there is nothing to merge: give the folder of one comparison at least.")
    rows = concatenate(parts)
    rows["_part"] = [number for number, part in enumerate(parts) for _ in range(len(part))]
    cells = {text: identity(text) for text in rows["settings"].unique()}
    rows["_cell"] = rows["settings"].map(cells)
    return concatenate([_told_apart(_one_of_each(rows))])


def merge_folders(folders: Sequence[Path], out: Path) -> tuple[pd.DataFrame, list[str]]:
    """Merge the results in these folders, and tell in sentences what has to be known about it.

    Raises
    ------
    ValueError
        ``out`` is the folder of a comparison itself, or see :func:`merge`.
    FileNotFoundError
        A folder has no results.
    """
    if (out / "cells").exists():
        raise ValueError(f"{out} is a comparison's own folder, which it would write again; choose another for --out.")
    parts = [read_results(folder) for folder in folders]
    merged = merge(parts)
    runs = merged.drop_duplicates(RUN)
    before = sum(len(part.drop_duplicates(RUN)) for part in parts)
    said = [f"merged {len(runs)} runs of {len(folders)} folders; {before - len(runs)} were there more than once."]
    where = sorted(set(places(runs)))
    if len(where) > 1:
        named = "; ".join(place or "not told" for place in where)
        said.append(f"the times come from {len(where)} machines and cannot be compared across them: {named}.")
    return merged, said


def identity(settings: str) -> str:
    """What makes a cell, as text: its settings less those that do not decide its result.

    Settings that are not in force (None, or a default that an earlier version did not have) count as absent.

    Examples
    --------
    >>> identity('{"seed": 0, "training": {"lr": 0.01, "patience": null}}') == identity('{"seed": 0}')
    True
    """
    made = json.loads(settings)
    # Where the data came from does not matter: its content is in ``data``.
    made.pop("dataset", None)
    training = dict(made.get("training", {}))
    # Threads were a setting of training once.
    budget = {"threads": training.pop("threads", None), **made.get("budget", {})}
    made["training"] = {name: value for name, value in training.items() if value != _DEFAULTS.get(name)}
    made["budget"] = {name: budget[name] for name in BUDGET_OF_RESULT if budget.get(name) is not None}
    return json.dumps(made, sort_keys=True)


def _one_of_each(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each cell the rows of the one part that counts, where the first part has it."""
    first = rows.drop_duplicates(["_cell", "_part"])
    ranked = first.assign(
        _ok=first["status"] == "ok", _when=first["started"].fillna(pd.Timestamp(0, tz="UTC"))
    ).sort_values(["_ok", "_when", "_part"], kind="stable")
    chosen = ranked.drop_duplicates("_cell", keep="last")[["_cell", "_part"]]
    order = {cell: place for place, cell in enumerate(rows["_cell"].unique())}
    kept = rows.merge(chosen, on=["_cell", "_part"])
    return kept.assign(_order=kept["_cell"].map(order)).sort_values(["_order", "epoch"], kind="stable")


def _told_apart(rows: pd.DataFrame) -> pd.DataFrame:
    """One label for what is the same, and where one means several things the arguments in which these differ."""
    cells = rows.drop_duplicates("_cell")[["_cell", *LABELS]].reset_index(drop=True)
    made = [json.loads(text) for text in cells["_cell"]]
    _join_names(cells, made)
    for i, kind in enumerate(LABELS):
        # Differences count where the whole label is the same: a case may give each dataset other layers.
        differing: dict[tuple[str, ...], set[str]] = {}
        for names, group in cells.groupby(LABELS, sort=False):
            key = tuple(map(str, names))
            found = _differing([made[place] for place in group.index], kind, key[i])
            differing.setdefault(key[: i + 1], set()).update(found)
        cells[kind] = [
            _longer(row[kind], settings, kind, differing[tuple(row[LABELS[: i + 1]])])
            for (_, row), settings in zip(cells.iterrows(), made, strict=True)
        ]
    return rows.drop(columns=LABELS).merge(cells, on="_cell")


def _join_names(cells: pd.DataFrame, made: list[dict[str, Any]]) -> None:
    """Give all seeds of the same settings the same label: the shortest that one of the parts has for them."""
    same = [json.dumps({name: value for name, value in settings.items() if name not in ("seed", "split")},
                       sort_keys=True) for settings in made]  # fmt: skip
    for _, group in cells.groupby(same, sort=False):
        labels = min(group[LABELS].itertuples(index=False, name=None), key=lambda names: (len("".join(names)), names))
        cells.loc[group.index, LABELS] = list(labels)


def _differing(settings: list[dict[str, Any]], kind: str, label: str) -> set[str]:
    """Names of the arguments of this kind in which the cells of one label differ."""
    values = [{name: value for part in _ARGUMENTS[kind] for name, value in made.get(part, {}).items()}
              for made in settings]  # fmt: skip
    content: dict[str, set[str]] = {}
    for value, made in zip(values, settings, strict=True):
        content.setdefault(_text(value), set()).add(_text([made.get(part) for part in _CONTENT[kind]]))
    if max(map(len, content.values())) > 1:
        raise ValueError(
            f"{kind} {label!r} is not the same in all of these results: the content of what it names differs. "
            "Leave one of them out, or compare again under another name."
        )
    return {name for value in values for name in value
            if len({_text(other.get(name, _DEFAULTS.get(name))) for other in values}) > 1}  # fmt: skip


def _longer(label: str, made: dict[str, Any], kind: str, names: set[str]) -> str:
    """The label with the values of these arguments; those that are not given are left out."""
    given = dict(_DEFAULTS) if kind == "sampler" else {}
    for part in _ARGUMENTS[kind]:
        given.update(made.get(part, {}))
    added = {name: given[name] for name in sorted(names) if given.get(name) is not None}
    try:
        name, arguments = parse_choice(label)
    except ValueError:  # the name of a file may be anything
        name, arguments = label, {}
    return format_choice(name, arguments | added) if added else label


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
