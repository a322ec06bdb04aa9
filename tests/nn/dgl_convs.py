"""DGL's convolutions with their options, and models of them, for the tests of autoscale."""

from collections.abc import Callable
from functools import partial

from torch import nn
from torch.nn import functional

from gnnscale._dgl import dgl

CONVS: dict[str, Callable[[int, int], nn.Module]] = {
    "GraphConv": partial(dgl.nn.GraphConv, allow_zero_in_degree=True),
    "SAGEConv mean": partial(dgl.nn.SAGEConv, aggregator_type="mean"),
    "SAGEConv gcn": partial(dgl.nn.SAGEConv, aggregator_type="gcn"),
    "SAGEConv pool": partial(dgl.nn.SAGEConv, aggregator_type="pool"),
    "SAGEConv lstm": partial(dgl.nn.SAGEConv, aggregator_type="lstm"),
    "GATConv": lambda a, b: Flat(dgl.nn.GATConv(a, b, 1, allow_zero_in_degree=True)),
    "GATv2Conv": lambda a, b: Flat(dgl.nn.GATv2Conv(a, b, 1, allow_zero_in_degree=True)),
    "GINConv sum": lambda a, b: dgl.nn.GINConv(nn.Linear(a, b), "sum"),
    "GINConv mean": lambda a, b: dgl.nn.GINConv(nn.Linear(a, b), "mean", learn_eps=True),
    "GINConv max": lambda a, b: dgl.nn.GINConv(nn.Linear(a, b), "max"),
    "SGConv": partial(dgl.nn.SGConv, k=2, allow_zero_in_degree=True),
    "TAGConv": partial(dgl.nn.TAGConv, k=2),
    "APPNPConv": lambda a, b: Predicted(a, b, dgl.nn.APPNPConv(2, 0.1)),
    "GCN2Conv": lambda a, b: Projected(a, b, dgl.nn.GCN2Conv(b, 1, allow_zero_in_degree=True)),
    "PNAConv": partial(
        dgl.nn.PNAConv, aggregators=["mean", "max", "std"], scalers=["identity", "amplification"], delta=2.0
    ),
}
"""One convolution each, as a module called with a graph and its rows."""

OPTIONS: dict[str, Callable[[int, int], nn.Module]] = {
    **{
        f"GraphConv {norm}": partial(dgl.nn.GraphConv, norm=norm, bias=False, allow_zero_in_degree=True)
        for norm in ("left", "right", "none")
    },
    "GraphConv activation": partial(dgl.nn.GraphConv, activation=functional.elu, allow_zero_in_degree=True),
    "GraphConv without weight": lambda a, b: Projected(a, b, _weightless(b), given=False),
    "SAGEConv options": lambda a, b: dgl.nn.SAGEConv(
        (a, a), b, "mean", bias=False, norm=functional.normalize, activation=functional.elu
    ),
    "SAGEConv gcn without bias": lambda a, b: dgl.nn.SAGEConv(a, b, "gcn", bias=False),
    "GATConv heads": lambda a, b: Flat(_attention(dgl.nn.GATConv, a, b, residual=True, negative_slope=0.1)),
    "GATConv identity": lambda a, b: Flat(_attention(dgl.nn.GATConv, a, a, heads=1, residual=True, bias=False)),
    "GATConv pair": lambda a, b: Flat(_attention(dgl.nn.GATConv, (a, a), b, activation=functional.elu), pair=True),
    "GATv2Conv heads": lambda a, b: Flat(_attention(dgl.nn.GATv2Conv, a, b, residual=True, activation=functional.elu)),
    "GATv2Conv shared": lambda a, b: Flat(_attention(dgl.nn.GATv2Conv, a, b, share_weights=True, bias=False)),
    "GATv2Conv pair": lambda a, b: Flat(_attention(dgl.nn.GATv2Conv, (a, a), b), pair=True),
    "GINConv bare": lambda a, b: Projected(
        a, b, dgl.nn.GINConv(None, "sum", init_eps=0.5, activation=functional.elu), given=False
    ),
    "SGConv norm": lambda a, b: dgl.nn.SGConv(
        a, b, k=3, bias=False, norm=nn.LayerNorm(a, elementwise_affine=False), allow_zero_in_degree=True
    ),
    "TAGConv options": partial(dgl.nn.TAGConv, k=1, bias=False, activation=functional.elu),
    "GCN2Conv two weights": lambda a, b: Projected(
        a,
        b,
        dgl.nn.GCN2Conv(
            b, 3, 0.3, 0.5, project_initial_features=False, bias=False, activation=functional.elu,
            allow_zero_in_degree=True,
        ),
    ),
    "PNAConv options": lambda a, b: Projected(
        a,
        b,
        dgl.nn.PNAConv(
            b, b, ["sum", "min", "var"], ["identity", "attenuation"], 1.5, num_towers=2, residual=True
        ),
        given=False,
    ),
}  # fmt: skip
"""The other values of their options."""


def _weightless(size: int) -> nn.Module:
    return dgl.nn.GraphConv(size, size, weight=False, allow_zero_in_degree=True)


def _attention(cls, in_size, out_size, heads=2, **options):
    return cls(in_size, out_size // heads, heads, allow_zero_in_degree=True, **options)


class Flat(nn.Module):
    """Attention heads side by side."""

    def __init__(self, conv: nn.Module, pair: bool = False) -> None:
        super().__init__()
        self.conv = conv
        self.pair = pair

    def forward(self, graph, x):
        return self.conv(graph, (x, x[: graph.num_dst_nodes()]) if self.pair else x).flatten(1)


class Projected(nn.Module):
    """A convolution that keeps the width, after a linear map, whose rows GCN2Conv is given again."""

    def __init__(self, in_size: int, out_size: int, conv: nn.Module, given: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(in_size, out_size)
        self.conv = conv
        self.given = given

    def forward(self, graph, x):
        x = self.linear(x)
        return self.conv(graph, x, x) if self.given else self.conv(graph, x)


class Predicted(nn.Module):
    """APPNP's linear map, and its propagation."""

    def __init__(self, in_size: int, out_size: int, conv: nn.Module) -> None:
        super().__init__()
        self.linear = nn.Linear(in_size, out_size)
        self.conv = conv

    def forward(self, graph, x):
        return self.conv(graph, self.linear(x))


class Stack(nn.Module):
    """Convolutions with ReLU and dropout between, in the way of DGL's examples."""

    def __init__(self, make, in_size: int, hidden_size: int, out_size: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.layers = nn.ModuleList([make(in_size, hidden_size), make(hidden_size, out_size)])
        self.dropout = nn.Dropout(dropout)

    def forward(self, blocks, x):
        """``blocks``: one for each convolution, or one graph for all."""
        for index, layer in enumerate(self.layers):
            if index:
                x = self.dropout(functional.relu(x))
            graph = blocks[index] if isinstance(blocks, list) else blocks
            x = layer(graph, x)
        return x


def num_layers(model: nn.Module) -> int:
    """How many layers of a batch an autoscaled model takes."""
    return sum(model.forward.hops)
