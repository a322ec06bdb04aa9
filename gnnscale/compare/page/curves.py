"""The curves of the page: of each run some of its points, so that large comparisons stay quick."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd

from gnnscale.compare.summary import RUN

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
    epochs = results["epoch"].to_numpy()
    seconds = results["prepare_seconds"].to_numpy()
    status = results["status"].to_numpy()
    values = {name: results[name].to_numpy(dtype=float, na_value=np.nan) for name in VALUES if name in results}
    # Rows of each run, in order of appearance: there are many runs, and a frame for each would take long.
    indices: dict[Any, Any] = results.groupby(RUN, sort=False).indices
    of_runs = sorted(indices.items(), key=lambda item: item[1][0])
    each = max(points // len(of_runs), LEAST) if (epochs > 0).sum() > points else len(epochs)
    kept = {
        panel: _some(np.unique(epochs[rows][epochs[rows] > 0]), each)
        for panel, rows in results.groupby(RUN[:2], sort=False).indices.items()
    }
    listed = []
    for (dataset, model, sampler, seed), rows in of_runs:
        curve = rows[epochs[rows] > 0]
        curve = curve[np.argsort(epochs[curve], kind="stable")]
        shown = curve[np.isin(epochs[curve], kept[dataset, model]) | (curve == curve[-1:])]
        listed.append(
            {
                "dataset": dataset,
                "model": model,
                "sampler": sampler,
                "seed": int(seed),
                "ok": bool(status[rows[0]] == "ok"),
                "prepare": _number(seconds[rows[0]]),
                "of": len(curve),
                "epoch": epochs[shown].tolist(),
                **{
                    name: [_number(value) for value in column[shown]]
                    for name, column in values.items()
                    if np.isfinite(column[shown]).any()
                },
            }
        )
    return listed


def _some(epochs: np.ndarray, number: int) -> np.ndarray:
    if len(epochs) <= number:
        return epochs
    half = number // 2
    places = np.concatenate([np.linspace(0, len(epochs) - 1, half), np.geomspace(1, len(epochs), half) - 1])
    return epochs[np.unique(places.round().astype(int))]


def _number(value: float) -> float | None:
    return float(f"{value:.5g}") if np.isfinite(value) else None


def _own_target(group: pd.DataFrame) -> float | None:
    targets = {json.loads(text).get("training", {}).get("target") for text in group["settings"].unique()} - {None}
    return targets.pop() if len(targets) == 1 else None
