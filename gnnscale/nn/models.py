"""Models that are stacks of convolutions, and run under every sampler."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from gnnscale.batch import MiniBatch
from gnnscale.checks import check_count, check_flag, check_number, check_share
from gnnscale.nn.convs import GATConv, GCNConv, GINConv, PNAConv, SAGEConv
from gnnscale.nn.dropout import Dropout


class GNN(nn.Module):
    """A stack of convolutions; subclasses name the convolution.

    Between convolutions come normalisation, the residual connection, the activation, exchange with the history, and
    dropout, in this order (GNNAutoScale's); the features are dropped out too. Labels may be classes or several a node
    (multi-label): ``batch.loss`` sees to the difference.

    Parameters
    ----------
    in_size, hidden_size, out_size : int
        Columns of the features, of the hidden rows, and of the logits.
    num_layers : int, default 2
        Number of convolutions.
    dropout : float, default 0.5
        Probability, in [0, 1).
    norm : {None, "batch", "layer"}
        Normalisation of hidden rows.
    residual : bool, default False
        Whether a convolution's input is added to its output where both have as many columns.
    jumping : {None, "cat", "max"}
        Jumping knowledge (Xu et al. 2018): all convolutions have ``hidden_size`` columns, and a linear map of the
        rows of all of them, side by side or the largest of each column, gives the logits.

    Raises
    ------
    ValueError
        One sentence, for sizes that are not positive, a dropout outside [0, 1), or an unknown norm or jumping.
    """

    conv: ClassVar[type[nn.Module]]
    """Made as ``conv(in_size, out_size)``; a subclass whose convolution takes more overrides :meth:`make_convs`."""

    def __init__(
        self,
        in_size: int,
        hidden_size: int,
        out_size: int,
        *,
        num_layers: int = 2,
        dropout: float = 0.5,
        norm: str | None = None,
        residual: bool = False,
        jumping: str | None = None,
    ) -> None:
        super().__init__()
        in_size, hidden_size, out_size, num_layers = check_shape(in_size, hidden_size, out_size, num_layers, dropout)
        if jumping not in (None, "cat", "max"):
            raise ValueError(f"jumping={jumping!r} is not known; use None, 'cat' or 'max'")
        self.in_size, self.hidden_size, self.jumping = in_size, hidden_size, jumping
        self.residual = check_flag("residual", residual)
        self.dropout = Dropout(dropout)
        widths = [in_size, *[hidden_size] * (num_layers - 1), hidden_size if jumping else out_size]
        self.convs = nn.ModuleList(self.make_convs(widths))
        self.norms = make_norms(norm, hidden_size, num_layers if jumping else num_layers - 1)
        self.head = None
        if jumping:
            self.head = nn.Linear(hidden_size * (num_layers if jumping == "cat" else 1), out_size)

    @staticmethod
    def activation(x: Tensor) -> Tensor:
        """The nonlinearity between convolutions: ReLU."""
        return torch.relu(x)

    def make_convs(self, widths: list[int]) -> Iterable[nn.Module]:
        """The convolutions between rows of these widths; the model's settings are set already."""
        return [self.conv(a, b) for a, b in pairwise(widths)]

    def forward(self, batch: MiniBatch, x: Tensor) -> Tensor:
        """Logits of the batch's output nodes.

        Parameters
        ----------
        batch : MiniBatch
            Of any sampler.
        x : Tensor
            Shape (num_input, in_size): ``batch.x``.

        Returns
        -------
        Tensor
            Shape (num_output, out_size).
        """
        check_width(x, self.in_size)
        hidden = []
        for index, (layer, conv) in enumerate(zip(batch.layers(len(self.convs)), self.convs, strict=True)):
            given = self.dropout(layer.exchange(x))
            x = layer.propagate(conv, given)
            is_last = index == len(self.convs) - 1
            if not is_last or self.jumping:
                x = x if self.norms is None else self.norms[index](x)
            if self.residual and x.shape[1] == given.shape[1]:
                x = x + layer.own(given)
            if not is_last or self.jumping:
                x = self.activation(x)
            if self.head is not None:
                hidden.append(x)
        if self.head is None:
            return x
        # The nodes of every layer are a prefix of one list, the outputs first.
        outputs = torch.stack([rows[: len(x)] for rows in hidden])
        return self.head(outputs.amax(0) if self.jumping == "max" else outputs.transpose(0, 1).flatten(1))

    def parameter_groups(self, weight_decay: float, rest_weight_decay: float = 0.0) -> list[dict[str, Any]]:
        """Groups for an optimiser: weight decay on all but the last convolution, as in Kipf and Welling's GCN.

        Parameters
        ----------
        weight_decay, rest_weight_decay : float
            Of those, and of the last one (of the linear map after it, with jumping knowledge).
        """
        return groups_without(self, self.convs[-1] if self.head is None else self.head, weight_decay, rest_weight_decay)


def settings_of(model: type[nn.Module]) -> dict[str, Any]:
    """Names and defaults of the settings of a model's constructor, with those that it hands on to its base."""
    settings: dict[str, Any] = {}
    for cls in reversed(model.__mro__[: model.__mro__.index(nn.Module)]):
        parameters = inspect.signature(cls).parameters.values()
        settings |= {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}
    return settings


def check_shape(
    in_size: int, hidden_size: int, out_size: int, num_layers: int, dropout: float
) -> tuple[int, int, int, int]:
    """The sizes of a model as integers.

    Raises
    ------
    ValueError
        One sentence, if one is not positive, or for a dropout outside [0, 1).
    """
    check_share("dropout", dropout, "at least 0 and less than 1", zero=True)
    sizes = {"in_size": in_size, "hidden_size": hidden_size, "out_size": out_size, "num_layers": num_layers}
    first, second, third, fourth = (check_count(name, size) for name, size in sizes.items())
    return first, second, third, fourth


def check_width(x: Tensor, in_size: int) -> None:
    """Refuse features of another width than a model was made for.

    Raises
    ------
    ValueError
        One sentence.
    """
    if x.dim() != 2 or x.shape[1] != in_size:
        raise ValueError(
            f"x has the shape {tuple(x.shape)} and the model was made for in_size={in_size} columns; make it with "
            "data.num_features"
        )


def make_norms(norm: str | None, size: int, count: int) -> nn.ModuleList | None:
    """Normalisations of rows of ``size`` columns: None, "batch" or "layer"."""
    norms = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}
    if norm is None:
        return None
    if norm not in norms:
        raise ValueError(f"norm={norm!r} is not known; use None, 'batch' or 'layer'")
    return nn.ModuleList(norms[norm](size) for _ in range(count))


def groups_without(
    model: nn.Module, part: nn.Module, weight_decay: float, rest_weight_decay: float
) -> list[dict[str, Any]]:
    """Groups for an optimiser: ``weight_decay`` for all parameters but those of ``part``, which get the other."""
    rest = list(part.parameters())
    decayed = [p for p in model.parameters() if all(p is not other for other in rest)]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": rest, "weight_decay": rest_weight_decay}]
    return [group for group in groups if group["params"]]


class GCN(GNN):
    """Graph convolutional network (Kipf and Welling 2017).

    See :class:`GNN` for the parameters.

    Examples
    --------
    >>> import gnnscale as gs
    >>> gs.nn.GCN(1433, 16, 7).convs[0].weight.shape
    torch.Size([1433, 16])
    """

    conv = GCNConv


class SAGE(GNN):
    """GraphSAGE with the mean aggregator (Hamilton et al. 2017).

    See :class:`GNN` for the parameters.

    Examples
    --------
    >>> import gnnscale as gs
    >>> len(gs.nn.SAGE(1433, 16, 7, num_layers=3).convs)
    3
    """

    conv = SAGEConv


class GIN(GNN):
    """Graph isomorphism network (Xu et al. 2019).

    Each convolution has an MLP with ``hidden_size`` hidden columns; the last one's gives the logits. See
    :class:`GNN` for the parameters. Sums over many neighbours are large: on graphs with high degrees, ``norm`` or
    a small learning rate helps.

    Parameters
    ----------
    lipschitz : float, default 0
        Weight in the loss of :func:`local_lipschitz`, the mean over the convolutions that read hidden rows, whose MLPs
        carry on the error of stale histories; at least 0. GNNAutoScale's GIN example has 1, without the last one.

    Examples
    --------
    >>> import gnnscale as gs
    >>> gs.nn.GIN(1433, 16, 7, norm="batch").convs[1].second
    Linear(in_features=16, out_features=7, bias=True)
    """

    conv = GINConv

    def __init__(
        self, in_size: int, hidden_size: int, out_size: int, *, lipschitz: float = 0.0, **settings: Any
    ) -> None:
        self.lipschitz = check_number("lipschitz", lipschitz)  # the base class makes the convolutions
        super().__init__(in_size, hidden_size, out_size, **settings)

    def make_convs(self, widths: list[int]) -> Iterable[nn.Module]:
        first, *others = pairwise(widths)
        return [
            GINConv(*first, hidden_size=self.hidden_size),
            *(GINConv(a, b, hidden_size=self.hidden_size, lipschitz=self.lipschitz / len(others)) for a, b in others),
        ]


class PNA(GNN):
    """Principal neighbourhood aggregation (Corso et al. 2020): mean, extremes and deviation, scaled by degree.

    See :class:`GNN` for the parameters and :class:`PNAConv` for what is computed.

    Parameters
    ----------
    delta : float, optional
        As for :class:`PNAConv`.

    Examples
    --------
    >>> import gnnscale as gs
    >>> gs.nn.PNA(1433, 16, 7).convs[0].neighbors
    Linear(in_features=192, out_features=16, bias=False)
    """

    conv = PNAConv

    def __init__(
        self, in_size: int, hidden_size: int, out_size: int, *, delta: float | None = None, **settings: Any
    ) -> None:
        self.delta = delta  # the base class makes the convolutions
        super().__init__(in_size, hidden_size, out_size, **settings)

    def make_convs(self, widths: list[int]) -> Iterable[nn.Module]:
        return [PNAConv(a, b, delta=self.delta) for a, b in pairwise(widths)]


class GAT(GNN):
    """Graph attention network (Veličković et al. 2018).

    ELU between convolutions, one head in the last. Dropout is on the input of each convolution and on its attention
    weights. See :class:`GNN` for the other parameters and what is raised.

    Parameters
    ----------
    heads : int, default 8
        Heads of each hidden layer. They share ``hidden_size`` equally, so the paper's 8 heads of 8 columns are
        ``hidden_size=64``, and models are compared at equal width.

    Examples
    --------
    >>> import gnnscale as gs
    >>> gs.nn.GAT(1433, 64, 7).convs[0].source.shape
    torch.Size([8, 8])
    """

    conv = GATConv

    def __init__(self, in_size: int, hidden_size: int, out_size: int, *, heads: int = 8, **settings: Any) -> None:
        self.heads = heads  # the base class makes the convolutions
        super().__init__(in_size, hidden_size, out_size, **settings)

    @staticmethod
    def activation(x: Tensor) -> Tensor:
        """The nonlinearity between convolutions: ELU."""
        return functional.elu(x)

    def make_convs(self, widths: list[int]) -> Iterable[nn.Module]:
        last = len(widths) - 2
        return [
            GATConv(a, b, heads=self.heads if index < last or self.jumping else 1, dropout=self.dropout.p)
            for index, (a, b) in enumerate(pairwise(widths))
        ]

    def parameter_groups(self, weight_decay: float, rest_weight_decay: float = 0.0) -> list[dict[str, Any]]:
        """One group: weight decay on all parameters, as the authors and GNNAutoScale have it.

        Raises
        ------
        ValueError
            If ``rest_weight_decay`` is not 0: there is no rest.
        """
        if rest_weight_decay:
            raise ValueError(
                f"rest_weight_decay={rest_weight_decay} is for parameters that have no weight_decay, and all of GAT's "
                "have it; leave it out"
            )
        return [{"params": list(self.parameters()), "weight_decay": weight_decay}]
