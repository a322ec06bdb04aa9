"""What is made of the results of a comparison: its tables and figures, all at once and again at any time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from gnnscale.compare.figures import draw_all
from gnnscale.compare.page import write_page
from gnnscale.compare.results import write_results
from gnnscale.compare.statistics import paired
from gnnscale.compare.summary import RUN, summarise, write_table


@dataclass
class Outcome:
    """What a comparison came to: the summary, how many runs failed, and the files written."""

    summary: pd.DataFrame
    failed: int
    files: list[Path]


def write_outcome(
    results: pd.DataFrame,
    folder: Path,
    *,
    target: float | None = None,
    count_preparation: bool = False,
    formats: Sequence[str] = ("png", "svg"),
    rows_too: bool = True,
) -> Outcome:
    """Write results.parquet, summary.csv, paired.csv, the figures of a comparison and its page.

    Parameters
    ----------
    results : pandas.DataFrame
        Rows as in results.parquet.
    folder : Path
    target : float, optional
        The validation metric that times to target are about, a fraction; default: the setting of the runs.
    count_preparation : bool
        Whether curves and times to target begin with preparation.
    formats : sequence of str
        Endings of the figures' files: png, svg, pdf.
    rows_too : bool
        Whether to write results.parquet, which tells that the comparison has come to its end.
    """
    summary = summarise(results, target, count_preparation)
    files = [folder / "summary.csv", folder / "paired.csv"]
    write_table(summary, files[0])
    write_table(paired(results), files[1])
    if rows_too:
        files.insert(0, folder / "results.parquet")
        write_results(results, files[0])
    files += draw_all(results, folder, target=target, count_preparation=count_preparation, formats=formats)
    files.append(write_page(results, folder, target=target, count_preparation=count_preparation))
    runs = results.drop_duplicates(RUN)
    return Outcome(summary, int((runs["status"] != "ok").sum()), files)
