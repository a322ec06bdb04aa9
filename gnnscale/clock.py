"""Where the time goes, by stage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

import torch

STAGES = ("sample", "gather", "transfer", "history")


class Clock:
    """Seconds by stage.

    Examples
    --------
    >>> clock = Clock()
    >>> with clock.stage("sample"):
    ...     pass
    >>> clock.seconds["sample"] >= 0
    True
    """

    def __init__(self, device: torch.device | None = None) -> None:
        self.device = device
        self.seconds = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the seconds inside to ``name``; work on a device is waited for."""
        start = now(self.device)
        try:
            yield
        finally:
            self.seconds[name] += now(self.device) - start

    def add(self, other: Clock) -> None:
        """Add another clock's seconds."""
        for name, seconds in other.seconds.items():
            self.seconds[name] += seconds


def now(device: torch.device | None = None) -> float:
    """Seconds, read when the device has done what it was given."""
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
    return perf_counter()
