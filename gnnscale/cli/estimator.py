"""``gnnscale estimator``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gnnscale.cli.ends import refuse
from gnnscale.cli.shown import new_console

if TYPE_CHECKING:
    from rich.console import Console


def estimator(
    dataset: Annotated[str, typer.Option(help="One dataset: a name (see `gnnscale list`) or a path.")],
    data_dir: Annotated[Path | None, typer.Option(help="Folder that has the dataset's files.")] = None,
    model: Annotated[str, typer.Option(help="One model.")] = "gcn",
    samplers: Annotated[
        str | None,
        typer.Option(help="Samplers, also with arguments: 'full,neighbor(fanouts=[5, 5])' (default: all)"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the results (default: runs/estimator-DATASET)")] = None,
    draws: Annotated[int, typer.Option(help="Batches to draw of each sampler.")] = 200,
    staleness: Annotated[str, typer.Option(help="Ages of histories to measure at, in optimiser steps.")] = "0,1,2,5,10",
    epochs: Annotated[int, typer.Option(help="Full-batch steps that the model is trained for beforehand.")] = 20,
    hidden: Annotated[
        int | None, typer.Option(help="Columns of a hidden layer (default: 64)", rich_help_panel="Model")
    ] = None,
    layers: Annotated[
        int | None, typer.Option(help="Layers (default: 2; appnp 10, gcnii 64)", rich_help_panel="Model")
    ] = None,
    norm: Annotated[
        str | None,
        typer.Option(help="Between layers: none, batch or layer (default: none)", rich_help_panel="Model"),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Seeds of a batch: nodes or clusters (default: each sampler's own)")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the model's weights and the batches.")] = 0,
    device: Annotated[str, typer.Option(help="Where the model computes: cpu or cuda.")] = "cpu",
    threads: Annotated[int | None, typer.Option(help="Threads of torch (default: all cores)")] = None,
) -> None:
    """Measure the bias and the spread of each sampler's outputs and gradient, beside what a batch costs.

    The model stands still and dropout is off: what differs between batches is the sample. Leaves estimator.csv and
    figures of error against cost, and against the age of histories. A sampler that fails is named at the end.

    Exit status: 0 if all samplers were measured, 1 if one failed, 2 for bad input, 130 after Ctrl-C.

    Example: [bold]gnnscale estimator --dataset cora --samplers "neighbor,vrgcn,gas" --out runs/estimator[/bold]
    """
    from gnnscale.estimator.report import table
    from gnnscale.estimator.run import read_request, run

    flags = {
        "datasets": dataset, "data_dir": data_dir, "models": model, "samplers": samplers, "out": out,
        "epochs": epochs, "hidden": hidden, "layers": layers, "norm": norm, "batch_size": batch_size,
        "device": device,
        "seeds": f"{seed},", "threads": threads,
    }  # fmt: skip
    console = new_console()
    try:
        specification, ages = read_request(flags, draws, staleness)
        with _progress(console) as on_progress:
            frame, files, failed = run(specification, draws, ages, on_progress)
    except KeyboardInterrupt:
        typer.echo("\nStopped; nothing was written.", err=True)
        raise typer.Exit(130) from None
    except (ValueError, TypeError, OSError) as error:
        refuse(error)
    console.print(table(frame, "relative to the exact values, in %; error² = bias² + std²"))
    for file in files:
        console.print(f"wrote {file}", markup=False, highlight=False, soft_wrap=True)
    for name, reason in failed.items():
        typer.echo(f"sampler {name} failed: {reason.rstrip('.')}.", err=True)
    raise typer.Exit(1 if failed else 0)


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """A bar a sampler at a terminal, and nothing elsewhere."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        tasks: dict[str, Any] = {}

        def show(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=total)
            progress.update(tasks[name], completed=done, visible=done < total)

        yield show
