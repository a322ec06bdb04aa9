"""``gnnscale plot`` and ``gnnscale merge``: results that are there, drawn and put together."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gnnscale.cli.ends import refuse
from gnnscale.cli.shown import new_console, tell

if TYPE_CHECKING:
    from rich.console import Console

    from gnnscale.compare.outputs import Outcome

# The options of both commands.
Target = Annotated[
    float | None,
    typer.Option(help="Validation metric, a fraction, for times to target (default: the runs' own setting)"),
]
CountPreparation = Annotated[
    bool, typer.Option("--count-preparation", help="Let curves and times to target begin with preparation.")
]
Format = Annotated[str, typer.Option("--format", help="Of the figures: png, svg and pdf, with commas between.")]


def plot(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of a comparison.")],
    target: Target = None,
    count_preparation: CountPreparation = False,
    form: Format = "png,svg",
) -> None:
    """Make the tables, the figures and the page of a comparison again, from its results.

    Nothing is run. A comparison that was stopped is drawn as far as it came.

    Example: [bold]gnnscale plot runs/cora --target 0.8 --format pdf[/bold]
    """
    from gnnscale.compare.results import read_results

    console = new_console()
    try:
        formats = _drawing(target, form)
        results = read_results(folder)
        where = folder if folder.is_dir() else folder.parent
        tell(_write(console, results, where, target, count_preparation, formats, rows_too=False), console)
    except (ValueError, OSError) as error:
        refuse(error)


def merge(
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER...", help="Folders of comparisons.")],
    out: Annotated[Path, typer.Option(help="Folder for the merged results.")],
    target: Target = None,
    count_preparation: CountPreparation = False,
    form: Format = "png,svg",
) -> None:
    """Put the results of several comparisons together: other seeds, other samplers, other machines.

    A cell that is there several times is taken once: a finished one rather than a failed one, and the newest. What is
    not the same gets a name of its own, such as gcn(layers=2) and gcn(layers=4).

    Example: [bold]gnnscale merge runs/monday runs/tuesday --out runs/all[/bold]
    """
    from gnnscale.compare.merge import merge_folders

    console = new_console()
    try:
        formats = _drawing(target, form)
        if out.exists() and not out.is_dir():
            raise ValueError(f"--out is {str(out)!r}, which is a file; give the path of a folder")
        results, said = merge_folders(folders, out)
        tell(_write(console, results, out, target, count_preparation, formats), console)
    except (ValueError, OSError) as error:
        refuse(error)
    for sentence in said:
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)


def _drawing(target: float | None, form: str) -> list[str]:
    """The formats that are meant, once these and the target are valid."""
    from gnnscale.compare.figures import FORMATS
    from gnnscale.compare.names import did_you_mean

    if target is not None and not 0 < target <= 1:
        raise ValueError(f"--target is {target:g}; it must be a fraction above 0, and 1 at most, such as 0.8")
    formats = [word.strip() for word in form.split(",")]
    for word in formats:
        if word not in FORMATS:
            raise ValueError(f"--format has {word!r}: {did_you_mean(word, FORMATS)}")
    return formats


def _write(
    console: Console,
    results: Any,
    where: Path,
    target: float | None,
    count_preparation: bool,
    formats: list[str],
    rows_too: bool = True,
) -> Outcome:
    from gnnscale.compare.outputs import write_outcome

    with console.status("drawing") if console.is_terminal else nullcontext():
        return write_outcome(
            results,
            where,
            target=target,
            count_preparation=count_preparation,
            formats=formats,
            rows_too=rows_too,
        )
