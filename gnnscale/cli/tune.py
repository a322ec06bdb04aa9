"""``gnnscale tune``."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from gnnscale.cli.ends import refuse, stoppable, stopped
from gnnscale.cli.shown import new_console


def tune(
    specification: Annotated[Path, typer.Argument(metavar="SPEC.toml", help="A comparison with a table \\[tune].")],
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

    Exit status: 0 if every sampler has a trial that finished, 1 if not, 2 for bad input, 130 after Ctrl-C, 143 after
    SIGTERM.
    """
    flags = {"data_dir": data_dir, "samplers": samplers, "out": out}
    console = new_console()
    where: Path | None = None
    try:
        with stoppable(), console.status("reading the datasets") if console.is_terminal else nullcontext():
            from gnnscale.compare.process import start_server

            start_server()
            from gnnscale.compare.tune_report import best_table, write_trials, write_tuned
            from gnnscale.compare.tune_run import read_request, run

            request = read_request(specification, flags, {"trials": trials, "seconds": seconds}, jobs)
        where = request.folder
        with stoppable():
            studies = run(request, jobs, console, live=console.is_terminal and not no_progress)
        files = [write_trials(studies, where), write_tuned(request.specification, studies, where)]
    except KeyboardInterrupt as stop:
        stopped(where, stop)
    except (ValueError, TypeError, OSError, ImportError) as error:
        refuse(error)
    console.print(best_table(studies))
    for file in files:
        console.print(f"wrote {file}", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(0 if all(study.best for study in studies) else 1)
