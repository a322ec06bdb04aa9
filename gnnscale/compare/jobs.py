"""How cells that run at once share the machine's cores."""

from __future__ import annotations

from typing import Any

from gnnscale.compare.machine import usable_cores


def share_cores(budget: dict[str, Any], jobs: int) -> dict[str, Any]:
    """A budget with its share of the cores, where it names no threads and several cells run at once.

    Examples
    --------
    >>> share_cores({"threads": 3}, jobs=2)
    {'threads': 3}
    >>> share_cores({"threads": None}, jobs=10_000)
    {'threads': 1}
    """
    if jobs == 1 or budget.get("threads") is not None:
        return budget
    return budget | {"threads": max(usable_cores() // jobs, 1)}


def crowding(budget: dict[str, Any], jobs: int) -> str | None:
    """A warning where the cells that run at once have more threads than the machine has cores."""
    cores, threads = usable_cores(), budget.get("threads") or usable_cores()
    if jobs * threads <= cores:
        return None
    cells = "1 cell" if jobs == 1 else f"{jobs} cells at once"
    return (
        f"warning: {cells} with {threads} threads each, on {cores} cores: the times disturb one another and cannot be "
        "compared; accuracies can"
    )
