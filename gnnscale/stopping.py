"""When a training run ends: after so many epochs, so much time, no more progress, or at a target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gnnscale.checks import check_at_least, check_number


class _Scored(Protocol):
    @property
    def train_seconds(self) -> float: ...
    @property
    def val(self) -> float: ...


@dataclass(frozen=True)
class StopRules:
    """The rules by which a run ends; whichever is met first, looked at after each epoch.

    They are a function of the points alone, so that a run which goes on from a checkpoint ends at the same epoch.

    Parameters
    ----------
    epochs : int
        Passes over the training nodes, the most that there are.
    max_seconds : float, optional
        Seconds of training; the epoch in which they pass is the last.
    patience : int, optional
        Epochs in a row whose validation metric is not strictly better than the best one before them.
    target : float, optional
        A validation metric, as a fraction.

    Raises
    ------
    ValueError
        A rule is out of range.

    Examples
    --------
    >>> from types import SimpleNamespace as Point
    >>> rules = StopRules(epochs=10, patience=2)
    >>> points = [Point(val=val, train_seconds=1.0) for val in (0.5, 0.7, 0.7, 0.6)]
    >>> rules.met(points[:3]), rules.met(points)
    (None, 'patience')
    """

    epochs: int
    max_seconds: float | None = None
    patience: int | None = None
    target: float | None = None

    def __post_init__(self) -> None:
        check_at_least("epochs", self.epochs, 1)
        if self.max_seconds is not None and not check_number("max_seconds", self.max_seconds):
            raise ValueError(f"max_seconds={self.max_seconds!r} has to be a number above 0")
        if self.patience is not None:
            check_at_least("patience", self.patience, 1)
        if self.target is not None and not 0 < check_number("target", self.target) <= 1:
            raise ValueError(f"target={self.target!r} has to be a fraction above 0, and 1 at most")

    def met(self, points: Sequence[_Scored]) -> str | None:
        """Name the rule that ends the run after these points; None where it goes on."""
        if not points:
            return None
        best, at = float("-inf"), 0
        for epoch, point in enumerate(points, 1):
            if point.val > best:  # never true of a metric that is not a number
                best, at = point.val, epoch
        if self.target is not None and best >= self.target:
            return "target"
        if self.patience is not None and len(points) - at >= self.patience:
            return "patience"
        if self.max_seconds is not None and points[-1].train_seconds >= self.max_seconds:
            return "seconds"
        return "epochs" if len(points) >= self.epochs else None
