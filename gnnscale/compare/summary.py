"""What a comparison comes to: one row a run, and one row a sampler."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gnnscale.compare.endings import OUTCOMES
from gnnscale.compare.results import write_whole

#: What names a run.
RUN = ["dataset", "model", "sampler", "seed"]

#: Where an epoch's time goes. With workers the first three overlap with training, which then waits for batches.
STAGES = ("sample", "gather", "transfer", "history", "compute")

#: Columns of results.parquet that add up from epoch to epoch.
CUMULATIVE = [
    "train_seconds", *(f"{stage}_seconds" for stage in STAGES), "wait_seconds", "history_wait_seconds",
    "steps", "edges", "evaluation_seconds",
]  # fmt: skip

#: How a run may fail, as in the column ``outcome``.
FAILURES = [name for name in OUTCOMES if name != "ok"]


def at_best_epochs(results: pd.DataFrame) -> pd.DataFrame:
    """Take of each finished run the row of its first best validation epoch, with the totals of the whole run.

    Parameters
    ----------
    results : pandas.DataFrame
        Rows as in results.parquet.

    Returns
    -------
    pandas.DataFrame
        One row a run whose status is ok, in order of appearance, with ``epochs`` and ``total_`` before the name of
        each of :data:`CUMULATIVE`. A run that has no validation metric is left out.

    Examples
    --------
    >>> results = pd.DataFrame({"dataset": "cora", "model": "gcn", "sampler": "full", "seed": 0, "epoch": [1, 2, 3],
    ...                         "train_seconds": [1.0, 2.0, 3.0], "val": [0.5, 0.7, 0.7], "test": [0.4, 0.6, 0.8],
    ...                         "status": "ok"})
    >>> at_best_epochs(results)[["epoch", "test", "epochs", "total_train_seconds"]].values.tolist()
    [[2.0, 0.6, 3.0, 3.0]]
    """
    finished = results[results["status"] == "ok"].sort_values("epoch", kind="stable", ignore_index=True)
    finished = finished.reindex(columns=list(dict.fromkeys([*results.columns, *CUMULATIVE])))
    last = finished.drop_duplicates(RUN, keep="last").set_index(RUN)[["epoch", *CUMULATIVE]]
    last.columns = pd.Index(["epochs", *(f"total_{name}" for name in CUMULATIVE)])
    order = results[RUN].drop_duplicates()
    judged = finished[finished["val"].notna()]
    # idxmax takes the first of equals: a later epoch has to be strictly better.
    best = judged.loc[judged.groupby(RUN, sort=False)["val"].idxmax()] if len(judged) else judged
    return order.merge(best, on=RUN).join(last, on=RUN)[[*finished.columns, *last.columns]]


def of_settings(results: pd.DataFrame, *keys: str) -> pd.Series:
    """What each row's settings hold under these keys, one inside the other; None where they have no such key."""

    def look(text: Any) -> Any:
        found = json.loads(text) if isinstance(text, str) else {}
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        return found

    if "settings" not in results:
        return pd.Series([None] * len(results), results.index, dtype=object)
    known = {text: look(text) for text in results["settings"].unique()}
    return pd.Series([known[text] for text in results["settings"]], results.index, dtype=object)


def times_to_target(
    results: pd.DataFrame, target: float | None = None, count_preparation: bool = False
) -> pd.DataFrame:
    """When each finished run's validation metric first reached its target.

    Parameters
    ----------
    results : pandas.DataFrame
        Rows as in results.parquet.
    target : float, optional
        A fraction, for all runs; default: the setting ``target`` of each run.
    count_preparation : bool
        Whether the time begins with preparation.

    Returns
    -------
    pandas.DataFrame
        One row a finished run that has a target, in order of appearance: its names, ``target``, and ``seconds``, empty
        where the run never reached it.

    Examples
    --------
    >>> results = pd.DataFrame({"dataset": "cora", "model": "gcn", "sampler": "full", "seed": 0, "epoch": [1, 2, 3],
    ...                         "train_seconds": [1.0, 2.0, 3.0], "val": [0.5, 0.7, 0.6], "prepare_seconds": 0.5,
    ...                         "status": "ok"})
    >>> times_to_target(results, 0.6, count_preparation=True)["seconds"].tolist()
    [2.5]
    """
    finished = results[results["status"] == "ok"]
    targets = pd.to_numeric(of_settings(finished, "training", "target")) if target is None else target
    finished = finished.assign(target=targets)
    finished = finished[finished["target"].notna()]
    seconds = finished["train_seconds"]
    if count_preparation:
        seconds = seconds + finished["prepare_seconds"].fillna(0)
    seconds = seconds.where(finished["val"] >= finished["target"]).rename("seconds").astype(float)
    runs = finished[RUN].assign(target=finished["target"].astype(float), seconds=seconds)
    return runs.groupby([*RUN, "target"], sort=False)["seconds"].min().reset_index()


#: The columns of summary.csv, in order, with what they mean.
SUMMARY_COLUMNS: dict[str, str] = {
    "dataset": "name of the dataset",
    "model": "name of the model",
    "sampler": "name of the sampler",
    "seeds": "runs that finished; all numbers of the row but counts of failures are over these",
    "test_mean": "mean over the runs of the test metric at the first best validation epoch, a fraction",
    "test_std": "its sample standard deviation (n - 1); empty for one run",
    "best_epoch": "median over the runs of the first best validation epoch",
    "seconds_per_epoch": "median over the runs of training seconds divided by epochs",
    "train_seconds": "median over the runs of all training seconds",
    "prepare_seconds": "median over the runs of the seconds of one-off preparation",
    "peak_memory_mb": "largest over the runs of the peak resident memory of the process, 10^6 bytes",
    "status": "ok, or how many runs failed, which seeds and why",
    "test_error": "standard error of test_mean: test_std divided by the root of the runs; empty for one run",
    "val_mean": "mean over the runs of the best validation metric, a fraction",
    "metric": "accuracy, roc_auc or micro_f1",
    "peak_device_memory_mb": "largest over the runs of the memory allocated on the GPU, 10^6 bytes; empty on the CPU",
    "target": "the validation metric that time_to_target is about; empty where there is none, or several",
    "target_reached": "runs that reached the target",
    "time_to_target": "median over the runs of the training seconds until the validation metric reached the target; "
    "a run that never did counts as longer than all others, so it is empty where half of them never did",
    "with_preparation": "whether time_to_target begins with preparation",
    **{
        f"{stage}_seconds_per_epoch": f"median over the runs of {stage}_seconds divided by epochs"
        for stage in (*STAGES, "wait")
    },
    "sampling_share": "median over the runs of sample_seconds divided by train_seconds; with workers they overlap",
    "num_workers": "threads that draw, gather and move batches while the model computes",
    "steps_per_epoch": "median over the runs of optimiser steps divided by epochs",
    "edges_per_second": "median over the runs of the edges that training added up divided by its seconds",
    "evaluation_seconds": "median over the runs of all seconds of evaluation, which no other time contains",
    "staleness": "mean over the runs and epochs of the age of the history rows read, steps; empty without histories",
    "history_wait_seconds": "median over the runs of the seconds in which training waited for history rows",
    "runs": "runs that there are, finished or not",
    **{name: f"runs whose outcome is {name}" for name in FAILURES},
}


def summarise(results: pd.DataFrame, target: float | None = None, count_preparation: bool = False) -> pd.DataFrame:
    """Make one row of each (dataset, model, sampler), in the order in which they first appear.

    Parameters
    ----------
    results : pandas.DataFrame
        Rows as in results.parquet.
    target : float, optional
        What ``time_to_target`` is about, a fraction; default: the setting ``target`` of the runs.
    count_preparation : bool
        Whether ``time_to_target`` begins with preparation.

    Returns
    -------
    pandas.DataFrame
        The columns of :data:`SUMMARY_COLUMNS`.
    """
    names = ["dataset", "model", "sampler"]
    best = dict(iter(at_best_epochs(results).groupby(names, sort=False)))
    reached = dict(iter(times_to_target(results, target, count_preparation).groupby(names, sort=False)))
    rows = [
        dict(zip(names, key, strict=True))
        | _of_runs(best.get(key, pd.DataFrame(columns=[*results.columns, *_NEEDED])))
        | _of_target(reached.get(key), count_preparation)
        | _of_failures(group)
        | {
            "metric": group["metric"].iloc[0],
            "num_workers": of_settings(group.head(1), "training", "num_workers").iloc[0],
            "staleness": group.loc[group["status"] == "ok", "staleness"].mean(),
        }
        for key, group in results.groupby(names, sort=False)
    ]
    return pd.DataFrame(rows, columns=list(SUMMARY_COLUMNS))


_NEEDED = ["epochs", *(f"total_{name}" for name in CUMULATIVE)]


def _of_runs(runs: pd.DataFrame) -> dict[str, Any]:
    """The numbers over finished runs, of the rows that :func:`at_best_epochs` gives."""
    epochs = runs["epochs"].astype(float)
    totals = {name: runs[f"total_{name}"].astype(float) for name in CUMULATIVE}
    seconds = totals["train_seconds"].where(totals["train_seconds"] > 0)
    stages = {
        f"{stage}_seconds_per_epoch": (totals[f"{stage}_seconds"] / epochs).median() for stage in (*STAGES, "wait")
    }
    return stages | {
        "seeds": len(runs),
        "test_mean": runs["test"].mean(),
        "test_std": runs["test"].std(ddof=1),
        "test_error": runs["test"].sem(ddof=1),
        "val_mean": runs["val"].mean(),
        "best_epoch": runs["epoch"].median(),
        "seconds_per_epoch": (totals["train_seconds"] / epochs).median(),
        "train_seconds": totals["train_seconds"].median(),
        "prepare_seconds": runs["prepare_seconds"].median(),
        "peak_memory_mb": runs["peak_memory_mb"].max(),
        "peak_device_memory_mb": runs["peak_device_memory_mb"].max(),
        "sampling_share": (totals["sample_seconds"] / seconds).median(),
        "steps_per_epoch": (totals["steps"] / epochs).median(),
        "edges_per_second": (totals["edges"] / seconds).median(),
        "evaluation_seconds": totals["evaluation_seconds"].median(),
        "history_wait_seconds": totals["history_wait_seconds"].where(runs["staleness"].notna()).median(),
    }


def _of_target(runs: pd.DataFrame | None, count_preparation: bool) -> dict[str, Any]:
    if runs is None:
        return {}
    middle = runs["seconds"].fillna(np.inf).median()
    targets = runs["target"].unique()
    return {
        "target": targets[0] if len(targets) == 1 else np.nan,
        "target_reached": int(runs["seconds"].notna().sum()),
        "time_to_target": middle if np.isfinite(middle) else np.nan,
        "with_preparation": count_preparation,
    }


def _of_failures(group: pd.DataFrame) -> dict[str, Any]:
    runs = group.drop_duplicates("seed").set_index("seed")
    failed = runs[runs["status"] != "ok"]
    counts = {name: int((failed["outcome"] == name).sum()) for name in FAILURES}
    return {"runs": len(runs), "status": _status(failed["status"], len(runs)), **counts}


def _status(failed: pd.Series, runs: int) -> str:
    """Name each reason once, with the seeds that it was the reason of."""
    if failed.empty:
        return "ok"
    seeds: dict[str, list[str]] = {}
    for seed, status in failed.sort_index().items():
        seeds.setdefault(str(status).removeprefix("failed: "), []).append(str(seed))
    reasons = [f"seed{'s' * (len(which) > 1)} {', '.join(which)}: {why}" for why, which in seeds.items()]
    return f"{len(failed)} of {runs} runs failed; {'; '.join(reasons)}"


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a summary, or paired tests, as CSV; the file appears whole or not at all."""
    write_whole(path, lambda temporary: table.to_csv(temporary, index=False))
