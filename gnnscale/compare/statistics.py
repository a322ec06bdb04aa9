"""Whether two samplers differ by more than chance: paired tests over the seeds that they share."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from gnnscale.compare.summary import at_best_epochs, of_settings

#: The columns of paired.csv, in order, with what they mean.
PAIRED_COLUMNS: dict[str, str] = {
    "dataset": "name of the dataset",
    "model": "name of the model",
    "quantity": "test: the test metric at the first best validation epoch, a fraction; log_seconds_per_epoch: the "
    "natural logarithm of training seconds an epoch",
    "sampler": "name of the one sampler",
    "other": "name of the other",
    "seeds": "seeds with which both finished (for times: on the same machine, with as many threads)",
    "mean_difference": "mean over these seeds of the one's value less the other's",
    "standard_error": "of mean_difference; empty for one seed",
    "low": "lower end of the 95 % confidence interval of the difference, for this pair by itself",
    "high": "its upper end",
    "t": "mean_difference divided by its standard error",
    "p": "two-sided p value of the paired t test; empty where the differences do not vary",
    "p_holm": "p after Holm's correction for all pairs of the dataset, the model and the quantity",
}


def paired(results: pd.DataFrame) -> pd.DataFrame:
    """Test every pair of samplers on the seeds that both finished: same seed, same split and first weights.

    Parameters
    ----------
    results : pandas.DataFrame
        Rows as in results.parquet.

    Returns
    -------
    pandas.DataFrame
        The columns of :data:`PAIRED_COLUMNS`: one row a quantity and pair of samplers of a dataset and model that have
        a seed in common. Where there is one, or where the differences do not vary, there is no t and no p.

    Examples
    --------
    >>> results = pd.DataFrame({"dataset": "cora", "model": "gcn", "sampler": ["full"] * 3 + ["gas"] * 3,
    ...                         "seed": [0, 1, 2] * 2, "epoch": 1, "train_seconds": 1.0, "val": 0.5, "split": 0,
    ...                         "test": [0.8, 0.7, 0.9, 0.7, 0.5, 0.6], "status": "ok"})
    >>> table = paired(results).round(4)
    >>> table.loc[table["quantity"] == "test", ["mean_difference", "t", "p", "p_holm"]].values.tolist()
    [[0.2, 3.4641, 0.0742, 0.0742]]
    """
    runs = at_best_epochs(results)
    seconds = runs["total_train_seconds"].astype(float) / runs["epochs"].astype(float)
    quantities = {
        "test": runs["test"].astype(float),
        "log_seconds_per_epoch": pd.Series(np.log(seconds.where(seconds > 0)), runs.index),
    }
    runs = runs.assign(**quantities, place=places(runs))
    conditions = {"test": ["seed", "split"], "log_seconds_per_epoch": ["seed", "split", "place"]}
    rows: list[dict[str, Any]] = []
    for (dataset, model), group in runs.groupby(["dataset", "model"], sort=False):
        for quantity, condition in conditions.items():
            tests = list(_tests(group.dropna(subset=[quantity]), quantity, condition))
            for test, p in zip(tests, holm([test["p"] for test in tests]), strict=True):
                rows.append({"dataset": dataset, "model": model, "quantity": quantity, **test, "p_holm": p})
    return pd.DataFrame(rows, columns=list(PAIRED_COLUMNS))


def places(runs: pd.DataFrame) -> pd.Series:
    """Where each row's times were taken: runs whose text differs ran on other hardware, or with other threads.

    The text is empty where the results do not tell the machine.
    """
    hardware = ("cpu", "cores", "gpu")
    machine = runs["machine"] if "machine" in runs else pd.Series([None] * len(runs), runs.index, dtype=object)
    found = {key: of_settings(pd.DataFrame({"settings": machine}), key) for key in hardware}
    threads = of_settings(runs, "budget", "threads")
    texts = [
        ", ".join(str(value) for value in values if value is not None)
        for values in zip(*(found[key] for key in hardware), threads.map(_count_of_threads), strict=True)
    ]
    return pd.Series(texts, runs.index, dtype=object)


def _count_of_threads(threads: Any) -> str | None:
    return None if threads is None else f"{threads} threads"


def _tests(runs: pd.DataFrame, quantity: str, condition: list[str]) -> Iterator[dict[str, Any]]:
    """A test of each pair of samplers, in order of appearance, that have a seed in common."""
    table = runs.pivot(index=condition, columns="sampler", values=quantity)[list(runs["sampler"].unique())]
    values = table.to_numpy(float)
    pairs = np.array(list(combinations(range(values.shape[1]), 2)), dtype=int).reshape(-1, 2)
    tests = t_tests(values[:, pairs[:, 0]], values[:, pairs[:, 1]])
    for i, (one, other) in enumerate(pairs):
        if tests["seeds"][i]:
            numbers = {name: column[i].item() for name, column in tests.items()}
            yield {"sampler": table.columns[one], "other": table.columns[other], **numbers}


def t_tests(values: np.ndarray, others: np.ndarray) -> dict[str, np.ndarray]:
    """Paired t tests, two-sided, of each column of one array against the same of another.

    Parameters
    ----------
    values, others : numpy.ndarray
        Shape (seeds, tests); NaN where a seed is missing.

    Returns
    -------
    dict of str to numpy.ndarray
        Of shape (tests,): ``seeds`` and the numbers of :data:`PAIRED_COLUMNS`; what cannot be told is NaN.

    Examples
    --------
    >>> found = t_tests(np.array([[1.0], [2.0], [4.0]]), np.array([[0.5], [1.0], [1.5]]))
    >>> [round(found[name].item(), 3) for name in ("mean_difference", "standard_error", "t", "p")]
    [1.333, 0.601, 2.219, 0.157]
    """
    from scipy import stats

    differences = values - others
    known = ~np.isnan(differences)
    seeds = known.sum(axis=0)
    size = np.maximum(seeds, 1)
    mean = np.where(known, differences, 0).sum(axis=0) / size
    deviations = np.where(known, differences - mean, 0)
    freedom = np.maximum(seeds - 1, 1)
    error = np.sqrt((deviations**2).sum(axis=0) / freedom / size)
    # Equal but for rounding: no spread, so nothing to measure the mean by.
    largest = np.where(known, np.maximum(np.abs(values), np.abs(others)), 0).max(axis=0, initial=0)
    error[np.abs(deviations).max(axis=0, initial=0) <= 1e-12 * largest] = 0
    told = (seeds > 1) & (error > 0)
    t = np.where(told, mean / np.where(told, error, 1), np.nan)
    reach = np.where(told, error * stats.t.ppf(0.975, freedom), np.nan)
    return {
        "seeds": seeds,
        "mean_difference": np.where(seeds > 0, mean, np.nan),
        "standard_error": np.where(seeds > 1, error, np.nan),
        "low": mean - reach,
        "high": mean + reach,
        "t": t,
        "p": np.where(told, 2 * stats.t.sf(np.abs(t), freedom), np.nan),
    }


def holm(p_values: list[float]) -> list[float]:
    """Holm's correction (1979): the i-th smallest of m is multiplied by m - i + 1, and none is below a smaller one's.

    What is NaN stays NaN and does not count.

    Examples
    --------
    >>> holm([0.04, 0.01, 0.03, float("nan")])
    [0.06, 0.03, 0.06, nan]
    """
    order = sorted((i for i, p in enumerate(p_values) if not np.isnan(p)), key=lambda i: p_values[i])
    corrected = [float("nan")] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[i]))
        corrected[i] = largest
    return corrected
