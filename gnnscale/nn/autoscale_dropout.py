"""Rows before dropout, for the exchange with histories."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from gnnscale import ops

_SIGNATURES = {
    functional.dropout: inspect.signature(functional.dropout),
    torch.dropout: inspect.signature(lambda input, p, train: None),
    ops.dropout: inspect.signature(lambda input, p, *, key=None: None),
}
_RESHAPES = {Tensor.flatten, Tensor.view, Tensor.reshape, Tensor.squeeze, torch.flatten, torch.reshape, torch.squeeze}


State = tuple[int, int]


def state_of(x: Tensor) -> State:
    """Which tensor it is, and how often it was changed in place: an activation may do so, or a residual connection."""
    return id(x), 0 if x.is_inference() else x._version


class RowsBeforeDropout(TorchFunctionMode):
    """Remembers of each result of dropout what was dropped out, while it is entered.

    A model's author writes activation, dropout, convolution, and histories are to hold the rows between the first two.
    ``nn.Dropout`` and ``functional.dropout`` both arrive here, because torch hands every call of its functions to the
    mode; a change of shape after dropout (``flatten`` of attention heads) is followed. What is changed in place
    afterwards is no result of dropout any more.
    """

    def __init__(self) -> None:
        super().__init__()
        # The result is kept too, so that its id is not given to another tensor.
        self._known: dict[State, tuple[Tensor, Tensor, State, float]] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _SIGNATURES:
            return self._dropped(func, _SIGNATURES[func].bind(*args, **kwargs))
        out = func(*args, **kwargs)
        if func in _RESHAPES and args:
            before, p = self.of(args[0])
            if p:
                self._remember(out, func(before, *args[1:], **kwargs), p)
        return out

    def _dropped(self, func: Callable[..., Any], call: inspect.BoundArguments) -> Tensor:
        call.apply_defaults()
        given, p = call.arguments["input"], call.arguments["p"]
        trains = call.arguments.get("training", call.arguments.get("train", True))
        # Dropout in place leaves nothing of the rows before it.
        before = given.clone() if call.arguments.get("inplace") else given
        out = func(*call.args, **call.kwargs)
        if trains and p:
            self._remember(out, before, p)
        return out

    def _remember(self, out: Tensor, before: Tensor, p: float) -> None:
        # Where torch does not count changes in place, nothing is known.
        if not out.is_inference():
            self._known[state_of(out)] = out, before, state_of(before), p

    def of(self, x: Tensor) -> tuple[Tensor, float]:
        """What ``x`` was before dropout, and its probability; ``x`` itself and 0 if it is not the result of one."""
        _, before, state, p = self._known.get(state_of(x), (x, x, None, 0.0))
        return (before, p) if state == state_of(before) else (x, 0.0)
