"""The curves of the page: of each run some of its points, so that large comparisons stay quick."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd

#: As many points all runs have together, about; a run has at least :data:`LEAST`.
POINTS = 60_000
LEAST = 24

#: What a point can be drawn at and against, as far as the results have it.
VALUES = ("train_seconds", "steps", "edges", "loss", "val", "test", "staleness")


def panels(results: pd.DataFrame, target: float | None = None) -> list[dict[str, Any]]:
    """Describe each (dataset, model), in order of appearance, with the target of its runs."""
    described = []
    for (dataset, model), group in results.groupby(["dataset", "model"], sort=False):
        first = group.iloc[0]
        described.append(
            {
                "dataset": dataset,
                "model": model,
                "metric": first["metric"],
                "nodes": int(first["num_nodes"]),
                "edges": int(first["num_edges"]),
                "target": target if target is not None else _own_target(group),
            }
        )
    return described


def runs(results: pd.DataFrame, points: int = POINTS) -> list[dict[str, Any]]:
    """List the runs with their points.

    Where there are more than ``points`` in all, every run of a panel keeps the same epochs, so that means over seeds
    stay means over the same epochs: half of them even, half denser at the start, where curves move; and its last one.

    Parameters
    ----------
    results : pandas.DataFrame
        Rows as in results.parquet.
    points : int
        Points to keep of all runs together, about.

    Returns
    -------
    list of dict
        By run its names, whether it is ok, its preparation, ``of``, the number of points it had, and a list for each
        of ``epoch`` and :data:`VALUES` that it has numbers for, rounded to five digits; missing ones are None.
    """
    curves = results[results["epoch"] > 0]
    names = ["dataset", "model", "sampler", "seed"]
    each = max(points // max(len(results.drop_duplicates(names)), 1), LEAST)
    kept = {
        panel: _some(np.sort(group["epoch"].unique()), each) if len(curves) > points else group["epoch"].unique()
        for panel, group in curves.groupby(["dataset", "model"], sort=False)
    }
    listed = []
    for (dataset, model, sampler, seed), run in results.groupby(names, sort=False):
        first = run.iloc[0]
        curve = run[run["epoch"] > 0].sort_values("epoch", kind="stable")
        epochs = curve["epoch"].to_numpy()
        shown = curve[np.isin(epochs, kept.get((dataset, model), [])) | (epochs == epochs.max(initial=0))]
        columns = {name: _numbers(shown[name]) for name in VALUES if name in shown and shown[name].notna().any()}
        listed.append(
            {
                "dataset": dataset,
                "model": model,
                "sampler": sampler,
                "seed": int(seed),
                "ok": bool(first["status"] == "ok"),
                "prepare": _number(first["prepare_seconds"]),
                "of": len(curve),
                "epoch": shown["epoch"].astype(int).tolist(),
                **columns,
            }
        )
    return listed


def _some(epochs: np.ndarray, number: int) -> np.ndarray:
    if len(epochs) <= number:
        return epochs
    half = number // 2
    places = np.concatenate([np.linspace(0, len(epochs) - 1, half), np.geomspace(1, len(epochs), half) - 1])
    return epochs[np.unique(places.round().astype(int))]


def _numbers(column: pd.Series) -> list[float | None]:
    return [_number(value) for value in column.to_numpy(dtype=float, na_value=np.nan)]


def _number(value: float) -> float | None:
    return float(f"{value:.5g}") if np.isfinite(value) else None


def _own_target(group: pd.DataFrame) -> float | None:
    targets = {json.loads(text).get("training", {}).get("target") for text in group["settings"].unique()}
    return targets.pop() if len(targets) == 1 else None
