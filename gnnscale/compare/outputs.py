"""What is made of results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from gnnscale.compare.plots import draw_curves
from gnnscale.compare.results import summarise, write_results, write_summary


@dataclass
class Outcome:
    """What a comparison came to: the summary, how many runs failed, and the files written."""

    summary: pd.DataFrame
    failed: int
    files: list[Path]


def write_outcome(results: pd.DataFrame, out: Path) -> Outcome:
    """Write results.parquet, summary.csv and the figures of a comparison."""
    summary = summarise(results)
    files = [out / name for name in ("results.parquet", "summary.csv", "accuracy_vs_time.png",
                                     "accuracy_vs_epoch.png")]  # fmt: skip
    write_results(results, files[0])
    write_summary(summary, files[1])
    draw_curves(results, files[2], x="train_seconds")
    draw_curves(results, files[3], x="epoch")
    runs = results.drop_duplicates(["dataset", "model", "sampler", "seed"])
    return Outcome(summary, int((runs["status"] != "ok").sum()), files)
