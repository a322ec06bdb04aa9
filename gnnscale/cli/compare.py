"""``gnnscale compare``."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gnnscale.cli.ends import Terminated, refuse, stoppable, stopped
from gnnscale.cli.shown import new_console, tell
from gnnscale.compare.flags import with_settings

if TYPE_CHECKING:
    from gnnscale.compare.display import Display
    from gnnscale.compare.outputs import Outcome


@with_settings
def compare(
    specification: Annotated[
        Path | None,
        typer.Argument(metavar="[SPEC.toml]", help="File with the comparison; flags override it."),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="Datasets: names (see `gnnscale list`) or paths, with commas between.",
            rich_help_panel="What",
        ),
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder that has the datasets' files.", rich_help_panel="What")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Models (default: gcn)", rich_help_panel="What")] = None,
    samplers: Annotated[
        str | None,
        typer.Option(
            help="Samplers, also with arguments: 'full,gas(num_parts=40, batch_size=10)' (default: all)",
            rich_help_panel="What",
        ),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(help="How many seeds, or which: 3 or 0,5,7 (default: 1)", rich_help_panel="What"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results (default: runs/NAME)", rich_help_panel="What")
    ] = None,
    jobs: Annotated[
        int,
        typer.Option(help="Cells that run at once; their times disturb one another.", rich_help_panel="Budget", min=1),
    ] = 1,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Tell the cells and what they will take in time and memory; write nothing."),
    ] = False,
    tensorboard: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write curves for TensorBoard into this folder too.")
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run those cells again that failed earlier.")
    ] = False,
    no_progress: Annotated[
        bool, typer.Option("--no-progress", help="Print one plain line a cell instead of bars.")
    ] = False,
    count_preparation: Annotated[
        bool, typer.Option("--count-preparation", help="Let curves and times to target begin with preparation.")
    ] = False,
    settings: dict[str, Any] | None = None,
) -> None:
    """Train the same model under several samplers; leave a table and curves of accuracy against time.

    Example: [bold]gnnscale compare --dataset cora --samplers full,gas --seeds 3 --out runs/cora[/bold]

    The same from a file: [bold]gnnscale compare experiments/demo.toml[/bold]

    Killed or stopped, the same command goes on with the cells that are missing.

    Exit status: 0 if all cells finished, 1 if one failed, 2 for bad input, 130 after Ctrl-C, 143 after SIGTERM.
    """
    flags = {
        "datasets": dataset, "data_dir": data_dir, "models": model, "samplers": samplers, "seeds": seeds, "out": out,
        **(settings or {}),
    }  # fmt: skip
    if dry_run:
        return _plan(specification, flags, jobs, retry_failed, not no_progress)
    outcome = _compare(specification, flags, jobs, tensorboard, retry_failed, not no_progress, count_preparation)
    raise typer.Exit(1 if outcome.failed else 0)


def _compare(
    path: Path | None,
    flags: dict[str, Any],
    jobs: int,
    tensorboard: Path | None,
    retry_failed: bool,
    progress: bool,
    count_preparation: bool,
) -> Outcome:
    where: Path | None = None
    console = new_console()
    try:
        with stoppable(), console.status("reading the datasets") if console.is_terminal and progress else nullcontext():
            from gnnscale.compare.process import start_server

            start_server()
            from gnnscale.compare.jobs import crowding, share_cores
            from gnnscale.compare.outputs import write_outcome
            from gnnscale.compare.plan import make_cells
            from gnnscale.compare.runner import check, run_cells
            from gnnscale.compare.specification import read_specification
            from gnnscale.compare.written import write_specification

            specification = read_specification(path, flags)
            specification = replace(specification, budget=share_cores(specification.budget, jobs))
            cells = make_cells(specification, check(specification))
        where = specification.out
        write_specification(specification, where / "specification.toml")
        from gnnscale.compare.display import LiveDisplay, PlainDisplay, Several

        with stoppable(), (LiveDisplay if console.is_terminal and progress else PlainDisplay)(console) as display:
            listeners: list[Display] = [display]
            if tensorboard is not None:
                from gnnscale.compare.tensorboard import TensorBoard

                listeners.append(TensorBoard(tensorboard))
            if warning := crowding(specification.budget, jobs):
                display.say(warning)
            results = run_cells(cells, where, Several(*listeners), jobs=jobs, retry_failed=retry_failed)
        outcome = write_outcome(results, where, count_preparation=count_preparation)
    except KeyboardInterrupt as stop:
        stopped(where, stop)
    except (ValueError, TypeError, OSError, ImportError) as error:
        refuse(error)
    tell(outcome, console)
    return outcome


def _plan(path: Path | None, flags: dict[str, Any], jobs: int, retry_failed: bool, progress: bool) -> None:
    """Tell what :func:`_compare` would do."""
    from tempfile import TemporaryDirectory

    console = new_console()
    shows = console.is_terminal and progress
    try:
        with stoppable(), console.status("reading the datasets") if shows else nullcontext() as status:
            from gnnscale.compare.process import start_server

            start_server()
            from gnnscale.compare.dry_run import plan, plan_summary, plan_table
            from gnnscale.compare.jobs import crowding, share_cores
            from gnnscale.compare.plan import Cell, make_cells
            from gnnscale.compare.runner import check
            from gnnscale.compare.specification import read_specification

            specification = read_specification(path, flags)
            specification = replace(specification, budget=share_cores(specification.budget, jobs))
            with TemporaryDirectory(prefix="gnnscale-check-") as logs:
                cells = make_cells(specification, check(specification, Path(logs)))

            def on_measuring(cell: Cell) -> None:
                if status is not None:
                    status.update(f"measuring {cell}")

            planned = plan(cells, specification.out, retry_failed=retry_failed, on_measuring=on_measuring)
    except KeyboardInterrupt as stop:
        typer.echo("\nStopped; nothing was written.", err=True)
        raise typer.Exit(143 if isinstance(stop, Terminated) else 130) from None
    except (ValueError, TypeError, OSError, ImportError) as error:
        refuse(error)
    console.print(plan_table(planned))
    if warning := crowding(specification.budget, jobs):
        typer.echo(warning)
    typer.echo(plan_summary(planned, jobs))
