"""How a command ends before its work is done: bad input, Ctrl-C and SIGTERM."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import typer


def refuse(error: Exception) -> NoReturn:
    """Say what is wrong with the input, a sentence a line, and end."""
    problems = getattr(error, "problems", None) or [" ".join(str(error).split())]
    for problem in problems:
        typer.echo(f"error: {problem}" if problem.endswith(("?", ".")) else f"error: {problem}.", err=True)
    raise typer.Exit(2) from None


def stopped(where: Path | None, stop: KeyboardInterrupt) -> NoReturn:
    """End after Ctrl-C or SIGTERM."""
    kept = f" What is finished is kept in {where}; the same command goes on with the rest." if where else ""
    typer.echo(f"\nStopped.{kept}", err=True)
    raise typer.Exit(143 if isinstance(stop, Terminated) else 130) from None


class Terminated(KeyboardInterrupt):
    """SIGTERM, which batch systems send before they kill; it ends a comparison as Ctrl-C does."""


@contextmanager
def stoppable() -> Iterator[None]:
    """What runs within it ends at SIGTERM with :class:`Terminated`."""

    def stop(number: int, frame: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
