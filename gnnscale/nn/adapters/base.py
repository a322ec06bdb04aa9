"""What an adapter is: a DGL convolution's parameters under gnnscale's convolution contract."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from gnnscale.layer import Layer

Exchange = Callable[[Layer, Tensor], Tensor]


class Adapter(nn.Module):
    """Computes what a convolution of DGL's computes on the whole graph, from the layers of a batch.

    It has no parameters of its own: ``conv`` is the convolution, whose parameters and settings are read at each call.
    A subclass has the name of DGL's class, which refusals show, and a ``forward(layer, x, *rows)`` that gives rows of
    shape (num_dst, F_out) from ``x`` of shape (num_src, F). It states ``norm`` if the convolution is a linear map of
    rows, one normalised sum over neighbours, and anything after it; samplers with control variates ask for that.

    Parameters
    ----------
    conv : nn.Module
        The convolution.
    """

    takes: ClassVar[tuple[str, ...]] = ()
    """Arguments of the convolution's ``forward`` after the graph and the rows: more rows, one for each node."""

    norm: str | None = None

    on_block: bool = False
    """Whether DGL's code does the work, on a block, and not gnnscale's own operations."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv: Any = conv

    @property
    def in_feats(self) -> int | None:
        """Columns of the rows that the convolution is made for; None where it takes any, or does not say."""
        return getattr(self.conv, "_in_feats", getattr(self.conv, "_in_src_feats", None))

    @property
    def hops(self) -> int:
        """How many layers of a batch one call uses."""
        return 1

    def run(self, layers: Sequence[Layer], exchange: Exchange, x: Tensor, *rows: Tensor) -> Tensor:
        """What a call of the convolution gives.

        Parameters
        ----------
        layers : sequence of Layer
            ``hops`` of them.
        exchange : callable
            Called with a layer and its rows before it is used: ``layer.exchange``, but for dropout.
        x : Tensor
            Shape (n, F): the rows that were computed before.
        *rows : Tensor
            As ``takes`` names them, at least num_dst rows each.
        """
        (layer,) = layers
        return layer.propagate(self, self.drop(exchange(layer, x)), *rows)

    def drop(self, x: Tensor) -> Tensor:
        """The convolution's own dropout of its input: after the exchange, so that histories hold whole rows."""
        feat_drop = getattr(self.conv, "feat_drop", None)
        return x if feat_drop is None else feat_drop(x)


class Hop(nn.Module):
    """One normalised sum over neighbours and nothing else."""

    def __init__(self, norm: str) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, layer: Layer, x: Tensor) -> Tensor:
        """Shape (num_dst, F), from ``x`` of shape (num_src, F)."""
        return layer.aggregate(x, self.norm)


def activated(activation: Callable[[Tensor], Tensor] | None, x: Tensor) -> Tensor:
    """``activation(x)``, where there is one."""
    return x if activation is None else activation(x)


def plus(x: Tensor, bias: Tensor | None) -> Tensor:
    """``x + bias``, where there is one."""
    return x if bias is None else x + bias


def check_same_size(conv: nn.Module, source: int, destination: int) -> None:
    """Refuse a convolution made for two kinds of nodes."""
    if source != destination:
        raise ValueError(
            f"{type(conv).__name__} was made for source rows of {source} columns and destination rows of "
            f"{destination}; in a batch both are rows of the same nodes: make it with in_feats={source}"
        )
