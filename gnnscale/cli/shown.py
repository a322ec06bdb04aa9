"""What several commands show."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from gnnscale.compare.outputs import Outcome


def new_console() -> Console:
    """The console that a command prints to."""
    from rich.console import Console

    # Where no terminal sets a width, lines stay whole: they go to a file or to another program.
    return Console() if sys.stdout.isatty() else Console(width=160, no_color=True)


def tell(outcome: Outcome, console: Console) -> None:
    """Print what a comparison came to, and where its files are."""
    from gnnscale.compare.tables import summary_tables

    for table in summary_tables(outcome.summary):
        console.print(table)
    for file in outcome.files:
        console.print(f"wrote {file}", markup=False, highlight=False, soft_wrap=True)
