"""The figures of a comparison, each under the name of its file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from gnnscale.compare.draw_curves import accuracy_vs_epoch, accuracy_vs_time
from gnnscale.compare.draw_memory import accuracy_vs_memory, memory_vs_layers
from gnnscale.compare.draw_stages import time_by_stage
from gnnscale.compare.draw_target import time_to_target
from gnnscale.compare.figure import paper, write_figure
from gnnscale.compare.summary import summarise

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("png", "svg", "pdf")

#: Each takes the results, their summary, the target and whether to count preparation; None where it has no data.
FIGURES: dict[str, Callable[..., Figure | None]] = {
    drawing.__name__: drawing
    for drawing in (
        accuracy_vs_time,
        accuracy_vs_epoch,
        time_to_target,
        time_by_stage,
        accuracy_vs_memory,
        memory_vs_layers,
    )
}


def draw_all(
    results: pd.DataFrame,
    folder: Path,
    *,
    target: float | None = None,
    count_preparation: bool = False,
    formats: Sequence[str] = ("png", "svg"),
) -> list[Path]:
    """Draw every figure that there is data for.

    Parameters
    ----------
    results : pandas.DataFrame
        Rows as in results.parquet.
    folder : Path
        Where the files go, each under the name of its figure. Files of these names from before are removed.
    target : float, optional
        The validation metric of ``time_to_target``, a fraction; default: the setting ``target`` of the runs.
    count_preparation : bool
        Whether time begins with preparation.
    formats : sequence of str
        Endings of the files: png, svg, pdf.

    Returns
    -------
    list of Path
        The files written.
    """
    summary = summarise(results, target, count_preparation)
    files = []
    for name, draw in FIGURES.items():
        with paper():
            figure = draw(results, summary=summary, target=target, count_preparation=count_preparation)
            # What lies there from before would stand beside these with another target or another start of time.
            for form in FORMATS:
                (folder / f"{name}.{form}").unlink(missing_ok=True)
            if figure is None:
                continue
            for form in formats:
                files.append(folder / f"{name}.{form}")
                write_figure(figure, files[-1])
    return files
