"""Prints GAS's table of small graphs: our results beside PyGAS's, as Markdown.

python experiments/gas_table/table.py SUMMARY.csv [SECONDS.csv]

SUMMARY.csv is the summary of `gnnscale compare experiments/gas_table/gas_table.toml`. Seconds an epoch come from
SECONDS.csv, a short run of the same on a machine that does nothing else, where there is one.
"""

import sys
from pathlib import Path

import pandas as pd

KEY = ["dataset", "model", "sampler"]
COLUMNS = [
    "dataset", "model", "sampler", "gnnscale", "seeds", "PyGAS, run", "runs", "difference", "PyGAS, published",
    "s / epoch", "PyGAS's",
]  # fmt: skip


def cells(row: pd.Series) -> list[str]:
    """One line: our mean and deviation over seeds, PyGAS's, the difference with its standard error, and seconds."""
    mean, std = 100 * row["test_mean"], 100 * row["test_std"]
    ours = [*row[KEY], f"{mean:.2f} ± {std:.2f}", f"{row['seeds']:.0f}"]
    seconds = f"{row['seconds_per_epoch']:.3f}"
    if pd.isna(row["mean"]):
        return [*ours, "–", "–", "–", "–", seconds, "–"]
    gap = mean - row["mean"]
    error = (std**2 / row["seeds"] + row["std"] ** 2 / row["runs"]) ** 0.5
    difference = f"{gap:+.2f} ± {error:.2f}{'' if gap >= -error else ' (short)'}"
    published = "–" if pd.isna(row["published"]) else row["published"]
    peer = [f"{row['mean']:.2f} ± {row['std']:.2f}", f"{row['runs']:.0f}", difference, published]
    return [*ours, *peer, seconds, f"{row['seconds_per_epoch_pygas']:.2f}"]


def main() -> None:
    ours = pd.read_csv(sys.argv[1])
    if len(sys.argv) > 2:
        seconds = pd.read_csv(sys.argv[2])[[*KEY, "seconds_per_epoch"]]
        ours = ours.drop(columns="seconds_per_epoch").merge(seconds, on=KEY, how="left")
    theirs = pd.read_csv(Path(__file__).with_name("pygas.csv"))
    print("|", " | ".join(COLUMNS), "|")
    print("|---" * len(COLUMNS) + "|")
    for _, row in ours.merge(theirs, on=KEY, how="left", suffixes=("", "_pygas")).iterrows():
        print("|", " | ".join(cells(row)), "|")


if __name__ == "__main__":
    main()
