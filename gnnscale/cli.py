"""The command line. Commands import what they need, so that ``gnnscale --help`` answers at once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from gnnscale.compare.flags import with_settings

if TYPE_CHECKING:
    from rich.console import Console

    from gnnscale.compare.display import Display
    from gnnscale.compare.outputs import Outcome

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="rich",
    help="Scale graph neural network training, and measure which way of scaling suits your graph.\n\n"
    "Begin with: [bold]gnnscale compare --dataset synthetic --samplers full,gas --epochs 20[/bold]",
)


def main() -> None:
    """Run the command ``gnnscale``."""
    app()


def _show_version(wanted: bool) -> None:
    if wanted:
        from gnnscale._version import __version__

        typer.echo(f"gnnscale {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command()
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
    console = _console()
    try:
        with _stoppable(), console.status("reading the datasets") if console.is_terminal and progress else _quiet():
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

        with _stoppable(), (LiveDisplay if console.is_terminal and progress else PlainDisplay)(console) as display:
            listeners: list[Display] = [display]
            if tensorboard is not None:
                from gnnscale.compare.tensorboard import TensorBoard

                listeners.append(TensorBoard(tensorboard))
            if warning := crowding(specification.budget, jobs):
                display.say(warning)
            results = run_cells(cells, where, Several(*listeners), jobs=jobs, retry_failed=retry_failed)
        outcome = write_outcome(results, where, count_preparation=count_preparation)
    except KeyboardInterrupt as stop:
        _stopped(where, stop)
    except (ValueError, TypeError, OSError, ImportError) as error:
        _refuse(error)
    _tell(outcome, console)
    return outcome


def _plan(path: Path | None, flags: dict[str, Any], jobs: int, retry_failed: bool, progress: bool) -> None:
    """Tell what :func:`_compare` would do."""
    from tempfile import TemporaryDirectory

    console = _console()
    shows = console.is_terminal and progress
    try:
        with _stoppable(), console.status("reading the datasets") if shows else _quiet() as status:
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
        raise typer.Exit(143 if isinstance(stop, _Terminated) else 130) from None
    except (ValueError, TypeError, OSError, ImportError) as error:
        _refuse(error)
    console.print(plan_table(planned))
    if warning := crowding(specification.budget, jobs):
        typer.echo(warning)
    typer.echo(plan_summary(planned, jobs))


def _tell(outcome: Outcome, console: Console) -> None:
    from gnnscale.compare.tables import summary_tables

    for table in summary_tables(outcome.summary):
        console.print(table)
    for file in outcome.files:
        console.print(f"wrote {file}", markup=False, highlight=False, soft_wrap=True)


def _stopped(where: Path | None, stop: KeyboardInterrupt) -> NoReturn:
    """End after Ctrl-C or SIGTERM."""
    kept = f" What is finished is kept in {where}; the same command goes on with the rest." if where else ""
    typer.echo(f"\nStopped.{kept}", err=True)
    raise typer.Exit(143 if isinstance(stop, _Terminated) else 130) from None


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which batch systems send before they kill; it ends a comparison as Ctrl-C does."""


@contextmanager
def _stoppable() -> Iterator[None]:
    import signal

    def stop(number: int, frame: object) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@app.command()
def tune(
    specification: Annotated[Path, typer.Argument(metavar="SPEC.toml", help="A comparison with a table [tune].")],
    trials: Annotated[
        int | None, typer.Option(help="Trials for each sampler, at most (default: the file's, or 20)", min=1)
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="Training seconds after which a sampler has no further trial (default: none)")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder that has the datasets' files.")] = None,
    samplers: Annotated[str | None, typer.Option(help="Samplers (default: those of the file)")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the trials (default: the file's, with -tune)")] = None,
    jobs: Annotated[int, typer.Option(help="Cells that run at once.", min=1)] = 1,
    no_progress: Annotated[bool, typer.Option("--no-progress", help="Print plain lines instead of a bar.")] = False,
) -> None:
    """Search settings for each sampler with an equal budget, and write a comparison that has them.

    What is searched stands in the file under \\[tune.train], \\[tune.model] and \\[tune.sampler.gas], such as
    lr = { low = 0.001, high = 0.1, log = true } or dropout = \\[0.0, 0.5]. The validation metric decides; the test
    metric takes no part.

    Leaves trials.csv and tuned.toml. Then: [bold]gnnscale compare OUT/tuned.toml[/bold]

    Killed or stopped, the same command goes on with the trials that are missing.

    Exit status: 0 if every sampler has a trial that finished, 1 if not, 2 for bad input, 130 after Ctrl-C.
    """
    flags = {"data_dir": data_dir, "samplers": samplers, "out": out}
    console = _console()
    where: Path | None = None
    try:
        with _stoppable(), console.status("reading the datasets") if console.is_terminal else _quiet():
            from gnnscale.compare.process import start_server

            start_server()
            from gnnscale.compare.tune_report import best_table, write_trials, write_tuned
            from gnnscale.compare.tune_run import read_request, run

            request = read_request(specification, flags, {"trials": trials, "seconds": seconds}, jobs)
        where = request.folder
        with _stoppable():
            studies = run(request, jobs, console, live=console.is_terminal and not no_progress)
        files = [write_trials(studies, where), write_tuned(request.specification, studies, where)]
    except KeyboardInterrupt as stop:
        _stopped(where, stop)
    except (ValueError, TypeError, OSError, ImportError) as error:
        _refuse(error)
    console.print(best_table(studies))
    for file in files:
        console.print(f"wrote {file}", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(0 if all(study.best for study in studies) else 1)


@app.command()
def plot(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of a comparison.")],
    target: Annotated[
        float | None,
        typer.Option(help="Validation metric, a fraction, for times to target (default: the runs' own setting)"),
    ] = None,
    count_preparation: Annotated[
        bool, typer.Option("--count-preparation", help="Let curves and times to target begin with preparation.")
    ] = False,
    form: Annotated[
        str, typer.Option("--format", help="Of the figures: png, svg and pdf, with commas between.")
    ] = "png,svg",
) -> None:
    """Make the tables, the figures and the page of a comparison again, from its results.

    Nothing is run. A comparison that was stopped is drawn as far as it came.

    Example: [bold]gnnscale plot runs/cora --target 0.8 --format pdf[/bold]
    """
    from gnnscale.compare.results import read_results

    console = _console()
    try:
        formats = _drawing(target, form)
        results = read_results(folder)
        where = folder if folder.is_dir() else folder.parent
        _tell(_write(console, results, where, target, count_preparation, formats), console)
    except (ValueError, OSError) as error:
        _refuse(error)


@app.command()
def merge(
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER...", help="Folders of comparisons.")],
    out: Annotated[Path, typer.Option(help="Folder for the merged results.")],
    target: Annotated[
        float | None,
        typer.Option(help="Validation metric, a fraction, for times to target (default: the runs' own setting)"),
    ] = None,
    count_preparation: Annotated[
        bool, typer.Option("--count-preparation", help="Let curves and times to target begin with preparation.")
    ] = False,
    form: Annotated[
        str, typer.Option("--format", help="Of the figures: png, svg and pdf, with commas between.")
    ] = "png,svg",
) -> None:
    """Put the results of several comparisons together: other seeds, other samplers, other machines.

    A cell that is there several times is taken once: a finished one rather than a failed one, and the newest. What is
    not the same gets a name of its own, such as gcn(layers=2) and gcn(layers=4).

    Example: [bold]gnnscale merge runs/monday runs/tuesday --out runs/all[/bold]
    """
    from gnnscale.compare.merge import merge_folders

    console = _console()
    try:
        formats = _drawing(target, form)
        results, said = merge_folders(folders, out)
        _tell(_write(console, results, out, target, count_preparation, formats), console)
    except (ValueError, OSError) as error:
        _refuse(error)
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
    console: Console, results: Any, where: Path, target: float | None, count_preparation: bool, formats: list[str]
) -> Outcome:
    from gnnscale.compare.outputs import write_outcome

    with console.status("drawing") if console.is_terminal else _quiet():
        return write_outcome(results, where, target=target, count_preparation=count_preparation, formats=formats)


@app.command()
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
        "seeds": f"{seed},", "threads": threads,
    }  # fmt: skip
    console = _console()
    try:
        specification, ages = read_request(flags, draws, staleness)
        with _progress(console) as on_progress:
            frame, files, failed = run(specification, draws, ages, on_progress)
    except KeyboardInterrupt:
        typer.echo("\nStopped; nothing was written.", err=True)
        raise typer.Exit(130) from None
    except (ValueError, TypeError, OSError) as error:
        _refuse(error)
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


@app.command()
def check(
    sampler: Annotated[
        str, typer.Argument(metavar="SAMPLER", help="my_sampler.py:MySampler, or a name, also with arguments.")
    ],
    draws: Annotated[int, typer.Option(help="Batches that a mean is taken from; more find a smaller bias.")] = 450,
    layers: Annotated[int, typer.Option(help="Layers that the sampler is asked for.")] = 2,
) -> None:
    """Check a sampler: blocks, repeatability, its estimate against brute force, odd graphs, and more.

    Example: [bold]gnnscale check "my_sampler.py:MySampler(k=3)"[/bold]

    The graphs have 60 nodes: a sampler that takes all of their neighbours is not checked for sampling.

    Exit status: 0 if all checks passed, 1 if one failed, 2 for bad input, 130 after Ctrl-C.
    """
    from gnnscale.compare.parse import parse_choice
    from gnnscale.samplers import make_sampler
    from gnnscale.testing import CHECKS, check_draws
    from gnnscale.testing.graphs import NUM_NODES

    try:
        check_draws(draws)
        name, arguments = parse_choice(sampler)
        if "num_layers" in arguments:
            raise ValueError("num_layers is given in brackets; use --layers for it")
        made = make_sampler(name, num_layers=layers, num_nodes=NUM_NODES, **arguments)
    except (ValueError, TypeError, OSError) as error:
        _refuse(error)
    estimate = getattr(made, "estimate", None)
    typer.echo(f"{sampler}, estimate: {estimate or 'unbiased (it declares none)'}")
    failed: dict[str, str] = {}
    width = max(len(check.name) for check in CHECKS)
    try:
        for check in CHECKS:
            typer.echo(f"  {check.name:<{width}}  ", nl=False)
            sys.stdout.flush()
            try:
                check(made, draws=draws)
            except AssertionError as error:
                sentence = " ".join(str(error).split())
                # One mistake fails many checks, and is told once.
                earlier = next((other for other, text in failed.items() if text == sentence), None)
                failed[check.name] = sentence
                typer.echo(f"FAILED: as {earlier}" if earlier else f"FAILED: {sentence.rstrip('.')}.")
            else:
                typer.echo("ok")
    except KeyboardInterrupt:
        typer.echo("\nStopped.", err=True)
        raise typer.Exit(130) from None
    typer.echo(f"{len(CHECKS) - len(failed)} of {len(CHECKS)} checks passed")
    raise typer.Exit(1 if failed else 0)


@app.command("list")
def list_names() -> None:
    """Name the datasets, models and samplers, with one line each.

    Example: [bold]gnnscale list[/bold]
    """
    from gnnscale.data import dataset_names
    from gnnscale.nn import MODELS
    from gnnscale.plugins import offered
    from gnnscale.samplers import SAMPLERS

    models = {name: _first_line(model) for name, model in MODELS.items()}
    samplers = {name: _first_line(getattr(sampler, "func", sampler)) for name, sampler in SAMPLERS.items()}
    # Their modules are not imported: a package that is broken must not break the list.
    for name, point in offered().items():
        samplers[name] = f"Of {point.dist.name if point.dist else 'a package'}: {point.value}"
    for title, lines in (("datasets", dataset_names()), ("models", models), ("samplers", samplers)):
        width = max(map(len, lines), default=0)
        typer.echo(f"{title}:")
        for name, line in lines.items():
            typer.echo(f"  {name:<{width}}  {line}")


@app.command()
def doctor() -> None:
    """Tell versions, which native parts are in use, and what is missing, with the remedy.

    Example: [bold]gnnscale doctor[/bold]. The exit status is 1 if something that is needed does not work.
    """
    from gnnscale.doctor import examine

    broken = False
    for finding in examine():
        broken |= finding.broken
        typer.echo(f"{finding.subject + ':':<14}{finding.state}")
        if finding.remedy:
            typer.echo(f"{'':<14}-> {finding.remedy}")
    raise typer.Exit(1 if broken else 0)


def _first_line(thing: object) -> str:
    return (thing.__doc__ or "").strip().partition("\n")[0]


def _console() -> Console:
    from rich.console import Console

    # Where no terminal sets a width, lines stay whole: they go to a file or to another program.
    return Console() if sys.stdout.isatty() else Console(width=160, no_color=True)


def _quiet() -> Any:
    from contextlib import nullcontext

    return nullcontext()


def _refuse(error: Exception) -> NoReturn:
    problems = getattr(error, "problems", None) or [" ".join(str(error).split())]
    for problem in problems:
        typer.echo(f"error: {problem.rstrip('.')}.", err=True)
    raise typer.Exit(2) from None
