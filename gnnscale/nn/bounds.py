"""Lipschitz constants of convolutions and models, from their weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import singledispatch

import torch
from torch import Tensor, nn

from gnnscale.nn.convs import APPNPConv, GCN2Conv, GCNConv, GINConv, SAGEConv
from gnnscale.nn.deep import APPNP, GCNII
from gnnscale.nn.models import GAT, GNN


@dataclass(frozen=True)
class Lipschitz:
    """How much one layer of a model can enlarge the difference between two inputs.

    If the rows of nodes differ by e in norm, what the layer gives for node v differs by at most
    ``own`` · e_v + ``neighbors`` · Σ_u Â_vu e_u. A layer is the convolution with all that follows before the next one.

    Attributes
    ----------
    own, neighbors : float
        The two constants; NaN where none is known.
    norm : str
        Which Â, as for ``layer.aggregate``; under "sym" v is one of the u.
    note : str
        Why there is none, else empty.
    """

    own: float
    neighbors: float
    norm: str
    note: str = ""


@singledispatch
def conv_constants(conv: nn.Module) -> tuple[float, float]:
    """Constants ``own`` and ``neighbors`` of one convolution, as in :class:`Lipschitz`.

    For a convolution of your own, which has to have the attribute ``norm``, register a function:
    ``@conv_constants.register``.

    Raises
    ------
    ValueError
        One sentence, where none is known.

    Examples
    --------
    >>> import torch
    >>> import gnnscale as gs
    >>> conv = gs.nn.GCNConv(2, 2)
    >>> _ = conv.weight.data.copy_(torch.tensor([[3.0, 0.0], [0.0, 2.0]]))
    >>> own, neighbors = gs.nn.conv_constants(conv)
    >>> own, round(neighbors, 6)
    (0.0, 3.0)
    """
    kind = type(conv).__name__
    if getattr(conv, "norm", None) is None:
        raise ValueError(f"{kind} has no fixed weights for its neighbours, and no Lipschitz constant that is known")
    raise ValueError(f"no Lipschitz constant of {kind} is known; register one with gnnscale.nn.conv_constants.register")


@conv_constants.register
def _(conv: GCNConv) -> tuple[float, float]:
    return 0.0, _spectral(conv.weight)


@conv_constants.register
def _(conv: SAGEConv) -> tuple[float, float]:
    return _spectral(conv.own.weight), _spectral(conv.neighbors.weight)


@conv_constants.register
def _(conv: GINConv) -> tuple[float, float]:
    network = _spectral(conv.first.weight) * _spectral(conv.second.weight)
    return abs(1 + conv.eps.item()) * network, network


@conv_constants.register
def _(conv: GCN2Conv) -> tuple[float, float]:
    mix = (1 - conv.beta) * torch.eye(conv.size) + conv.beta * conv.weight.detach().cpu()
    return 0.0, (1 - conv.alpha) * _spectral(mix)


@conv_constants.register
def _(conv: APPNPConv) -> tuple[float, float]:
    return 0.0, 1 - conv.alpha


@singledispatch
def lipschitz_constants(model: nn.Module) -> list[Lipschitz]:
    """The constants of each layer of a model, from its weights as they are now, in evaluation mode.

    They are products of spectral norms: of each linear map, of batch normalisation with its running statistics, and
    of layer normalisation (the largest weight over √eps, which rows of equal numbers need). Activations have 1. For
    a model of your own, register a function: ``@lipschitz_constants.register``.

    Parameters
    ----------
    model : nn.Module
        One of gnnscale's.

    Returns
    -------
    list of Lipschitz
        One a convolution, the input layer first. NaN with a note where none is known: attention and PNA, whatever
        stands behind jumping knowledge, and other models (then the list is empty).

    Examples
    --------
    >>> import gnnscale as gs
    >>> first, second = gs.nn.lipschitz_constants(gs.nn.SAGE(5, 8, 3))
    >>> first.own > 0, first.neighbors > 0, first.norm
    (True, True, 'mean')
    >>> gs.nn.lipschitz_constants(gs.nn.GAT(5, 8, 3))[0].note
    'GATConv has no fixed weights for its neighbours, and no Lipschitz constant that is known'
    """
    return []


@lipschitz_constants.register
def _(model: GNN) -> list[Lipschitz]:
    layers, last = [], len(model.convs) - 1
    known = type(model).activation in (GNN.activation, GAT.activation)
    for index, conv in enumerate(model.convs):
        note = "" if known or index == last else f"the activation of {type(model).__name__} is not one that is known"
        if index == last and model.head is not None:
            note = "jumping knowledge reads the rows of all layers"
        norm = None if model.norms is None or index >= len(model.norms) else model.norms[index]
        adds = model.residual and conv.in_size == conv.out_size
        layers.append(_layer(conv, norm, float(adds), 1.0, note))
    return layers


@lipschitz_constants.register
def _(model: GCNII) -> list[Lipschitz]:
    layers, last = [], len(model.convs) - 1
    for index, conv in enumerate(model.convs):
        norm = None if model.norms is None else model.norms[index]
        after = _spectral(model.last.weight) if index == last else 1.0
        layers.append(_layer(conv, norm, float(model.residual), after))
    return layers


@lipschitz_constants.register
def _(model: APPNP) -> list[Lipschitz]:
    return [_layer(model.conv, None, 0.0, 1.0)] * model.num_layers


def _layer(conv: nn.Module, norm: nn.Module | None, added: float, after: float, note: str = "") -> Lipschitz:
    """after(norm(convolution) + added · own row)."""
    try:
        own, neighbors = conv_constants(conv)
    except ValueError as error:
        note = note or str(error)
    if note:
        return Lipschitz(math.nan, math.nan, "", note)
    scale = _normalisation(norm)
    return Lipschitz(after * (scale * own + added), after * scale * neighbors, str(conv.norm))


def _normalisation(norm: nn.Module | None) -> float:
    if isinstance(norm, nn.BatchNorm1d):
        assert norm.running_var is not None
        return (norm.weight.detach() / (norm.running_var + norm.eps).sqrt()).abs().max().item()
    if isinstance(norm, nn.LayerNorm):
        return norm.weight.detach().abs().max().item() / math.sqrt(norm.eps)
    return 1.0


def _spectral(weight: Tensor) -> float:
    return torch.linalg.matrix_norm(weight.detach().double(), 2).item()
