"""What autoscale refuses, in one sentence each, and what the views of blocks answer."""

import warnings

import pytest
import torch
from torch import nn

import gnnscale as gs
from gnnscale._dgl import dgl
from gnnscale.loader import DataLoader
from gnnscale.samplers import ClusterGCNSampler, FullSampler, GASSampler, LMCSampler, NeighborSampler, VRGCNSampler
from tests.conftest import make_graph
from tests.nn.dgl_convs import Flat


class Written(nn.Module):
    """Two convolutions with a ``forward`` that the test writes."""

    def __init__(self, forward, make=lambda: dgl.nn.SAGEConv(5, 5, "mean")):
        super().__init__()
        self.a, self.b = make(), make()
        self.written = forward

    def forward(self, blocks, x):
        return self.written(self, blocks, x)


def first_batch(sampler=None, graph=None, batch_size=20):
    graph = make_graph() if graph is None else graph
    return next(iter(DataLoader(graph, torch.arange(60), sampler or NeighborSampler([3, 3]), batch_size=batch_size)))


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (3, "model is a int"),
        (nn.Linear(2, 2), "Linear has no convolution of dgl.nn; name the classes of your own"),
        (dgl.nn.HeteroGraphConv({"a": dgl.nn.SAGEConv(2, 2, "mean")}), "gnnscale samples homogeneous graphs"),
        (dgl.nn.SGConv(2, 2, cached=True), "make it with cached=False"),
        (dgl.nn.SGConv(2, 2, k=0), "k=0; it has to sum over neighbours at least once"),
        (dgl.nn.SAGEConv((2, 3), 2, "mean"), "make it with in_feats=2"),
        (dgl.nn.GATConv((2, 3), 2, 1), "make it with in_feats=2"),
        (dgl.nn.PNAConv(2, 2, ["moment3"], ["identity"], 1.0), "'moment3', which needs all messages"),
        (dgl.nn.PNAConv(2, 2, ["mean"], ["identity"], 1.0, edge_feat_size=1), "make it with edge_feat_size=0"),
        (nn.Sequential(dgl.nn.GraphConv(2, 2)), r"Sequential has no forward\(blocks, x\).*use dgl.nn.Sequential"),
        (nn.ModuleList([dgl.nn.GraphConv(2, 2)]), r"ModuleList has no forward\(blocks, x\)"),
    ],
)
def test_models_that_cannot_be_had(model, sentence):
    with pytest.raises((ValueError, TypeError), match=sentence):
        gs.autoscale(model)


def test_arguments():
    conv = dgl.nn.SAGEConv(2, 2, "mean")
    with pytest.raises(TypeError, match=r"convs has 'MyConv'; it takes classes"):
        gs.autoscale(conv, convs=["MyConv"])
    for convs in (dgl.nn.SAGEConv, "MyConv", None):
        with pytest.raises(TypeError, match=r"convs=.* is no list; it takes .* convs=\[MyConv\]"):
            gs.autoscale(conv, convs=convs)
    with pytest.raises(ValueError, match="num_blocks=0"):
        gs.autoscale(conv, num_blocks=0)
    mixed = dgl.nn.Sequential(conv, dgl.nn.TAGConv(2, 2, k=3))
    with pytest.raises(ValueError, match="take 1, 3 layers each"):
        gs.autoscale(mixed, num_blocks=2)


@pytest.mark.parametrize(
    ("forward", "sentence"),
    [
        (lambda m, b, x: m.a(b[0], x), r"on 1 of 2 blocks; .* num_blocks=1"),
        (lambda m, b, x: m.b(b, m.a(b, m.a(b, x))), r"more than 2 convolutions; .* num_blocks=3"),
        (lambda m, b, x: m.b(b[0], m.a(b[1], x)), "given block 1 before any convolution had block 0"),
        (lambda m, b, x: m.a(b[0], x, edge_weight=torch.ones(3)), r"given edge_weight, .* graph.edata\['weight'\]"),
        (lambda m, b, x: m.a(b[0], x.unsqueeze(1)), r"rows of shape \(\d+, 1, 5\); give it a matrix"),
        (lambda m, b, x: m.a(b[0], (x, x[-20:])), "give it h, or"),
        (lambda m, b, x: b[0].update_all(None, None), r"block.update_all outside of a convolution.*convs=\[MyConv\]"),
        (lambda m, b, x: dgl.ops.copy_u_sum(b[0], x), r"outside of a convolution"),
        (lambda m, b, x: m.b(b[0], x) + m.a(b[0], x + 1), "read block 0 with different rows"),
        (lambda m, b, x: x, r"forward called no convolution; call each as conv\(block, x\)"),
        (lambda m, b, x: m.a(b[0], (x, x, x)), "was given a tuple of Tensor, Tensor, Tensor; give it h, or the pair"),
        (lambda m, b, x: m.a(b[0], (x, None)), "was given a tuple of Tensor, NoneType; give it h, or the pair"),
        (lambda m, b, x: m.a(b[0], x[:, 1:]), "of block 0 has in_feats=5 and was given rows of 4 columns"),
        (lambda m, b, x: m.b(b[1], m.a(b[0], x)[:, 1:]), "of block 1 has in_feats=5 and was given rows of 4 columns"),
        (lambda m, b, x: dgl.add_self_loop(b[0]), r"blocks stay as they are, .* dgl.add_self_loop\(graph\)"),
        (lambda m, b, x: m.b(b, torch.relu(m.a(b, x[:, :5]))) + m.a(b, x), r"more than 2 convolutions"),
        (lambda m, b, x: (m.a(b[0], x), m.b(b[1], x))[1], "goes on from the .* of the block before"),
    ],
)
def test_calls_that_would_be_wrong(forward, sentence):
    model, batch = gs.autoscale(Written(forward)), first_batch()
    with pytest.raises(ValueError, match=sentence):
        model(batch, batch.x)


@pytest.mark.parametrize(
    ("forward", "error", "sentence"),
    [
        (lambda m, b, x: b[2], IndexError, r"blocks\[2\], .* blocks is 2, .* num_blocks=3"),
        (lambda m, b, x: b[-3], IndexError, r"blocks\[-3\], .* num_blocks=3"),
        (lambda m, g, x: g.local_scope(), AttributeError, "asks its first argument for 'local_scope'"),
        (lambda m, g, x: g.num_nodes(), AttributeError, "'num_nodes'; in a batch that is a list of blocks"),
        (lambda m, g, x: g.ndata["feat"], AttributeError, "'ndata'; in a batch that is a list of blocks"),
        (
            lambda m, g, x: dgl.add_self_loop(g),
            AttributeError,
            r"belongs into the graph itself.*add_self_loop\(graph\)",
        ),
        (lambda m, b, x: m.a(x, b[0]), TypeError, r"SAGEConv was given a Tensor first, .*conv\(block, x\)"),
        (lambda m, x, b: m.b(b[1], m.a(b[0], x)), TypeError, r"in a model's forward\(blocks, x\)"),
        (lambda m, x, b: torch.relu(x), TypeError, r"calls relu on the batch's blocks.*forward\(blocks, x\)"),
        (lambda m, x, b: nn.Linear(5, 5)(x), TypeError, r"calls linear on the batch's blocks"),
        (lambda m, b, x: m.a(b[0]), TypeError, r"SAGEConv was called wrongly, missing .* 'feat'; it takes \(.*feat"),
        (lambda m, b, x: m.a(b[0], x, None, 3), TypeError, "SAGEConv was called wrongly, too many positional"),
    ],
)
def test_calls_with_arguments_mixed_up(forward, error, sentence):
    model, batch = gs.autoscale(Written(forward)), first_batch()
    with pytest.raises(error, match=sentence):
        model(batch, batch.x)


@pytest.mark.parametrize(
    ("make", "argument", "sentence"),
    [
        (lambda: dgl.nn.GraphConv(5, 5, weight=False, bias=False), "weight", "own: make it with weight=True"),
        (lambda: dgl.nn.GATConv(5, 5, 1), "get_attention", "rows alone; .* call the convolution on DGL's graph"),
        (lambda: dgl.nn.PNAConv(5, 5, ["mean"], ["identity"], 1.0), "edge_feat", "features of edges are not at hand"),
    ],
)
def test_arguments_of_convolutions_have_reasons_of_their_own(make, argument, sentence):
    model = gs.autoscale(Written(lambda m, b, x: m.a(b[0], x, **{argument: torch.ones(5, 5)}), make))
    batch = first_batch(graph=dgl.add_self_loop(make_graph()))
    with pytest.raises(ValueError, match=f"was given {argument}, which has no meaning on a batch; .*{sentence}"):
        model(batch, batch.x)


@pytest.mark.parametrize(
    "make",
    [
        lambda: dgl.nn.GraphConv(6, 5),
        lambda: dgl.nn.GATConv(6, 5, 1),
        lambda: dgl.nn.GINConv(nn.Sequential(nn.Linear(6, 5), nn.ReLU())),
        lambda: dgl.nn.SGConv(6, 5),
        lambda: dgl.nn.TAGConv(6, 5, k=1),
        lambda: dgl.nn.PNAConv(6, 5, ["mean"], ["identity"], 1.0),
    ],
)
def test_wrong_widths_are_named(make):
    model, batch = gs.autoscale(make()), first_batch(NeighborSampler([3]))
    with pytest.raises(ValueError, match=r"Conv.* of block 0 has in_feats=6 and was given rows of 5 columns"):
        model(batch, batch.x)


def test_a_graph_convolution_without_a_matrix_takes_rows_of_any_width():
    batch = first_batch(NeighborSampler([3]))
    conv = gs.autoscale(dgl.nn.GraphConv(6, 6, weight=False, bias=False, allow_zero_in_degree=True))
    assert conv(batch, batch.x).shape == (20, 5)


class Branches(nn.Module):
    """Two branches that hand one graph to their convolutions."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (dgl.nn.SAGEConv(5, 5, "mean") for _ in range(3))

    def forward(self, g, x):
        return self.b(g, torch.relu(self.a(g, x))) + self.c(g, x)


@pytest.mark.parametrize("sampler", [NeighborSampler([3] * 3), LMCSampler(6, partition="random")])
def test_branches_need_blocks(sampler):
    model, batch = gs.autoscale(Branches()), first_batch(sampler, batch_size=3)
    with pytest.raises(ValueError, match=r"branches side by side need forward\(blocks, x\)"):
        model(batch, batch.x)


def test_branches_with_blocks_and_on_all_neighbours():
    def forward(m, blocks, x):
        h = torch.relu(m.a(blocks[0], x))
        return m.b(blocks[1], h) + m.a(blocks[1], h)

    graph = make_graph()
    for model, graphs, arguments in ((Branches(), graph, {}), (Written(forward), _Whole(graph), {"num_blocks": 2})):
        wanted = model(graphs, graph.ndata["feat"]).detach()
        gs.autoscale(model, **arguments)
        torch.testing.assert_close(gs.infer(model, graph, chunk_edges=80), wanted, rtol=1e-4, atol=1e-5)


def test_a_convolution_put_in_later_asks_for_another_call():
    graph = make_graph()
    model = gs.autoscale(Written(lambda m, b, x: m.b(b[1], m.a(b[0], x))))
    model.b = dgl.nn.SAGEConv(5, 3, "mean")
    with pytest.raises(ValueError, match=r"a SAGEConv that was not there when .* call it again"):
        gs.infer(model, graph)
    assert gs.infer(gs.autoscale(model), graph).shape == (60, 3)


def test_a_sampler_of_another_depth_says_so():
    model, batch = gs.autoscale(Written(lambda m, b, x: m.b(b[1], m.a(b[0], x)))), first_batch(NeighborSampler([3]))
    with pytest.raises(ValueError, match="the sampler drew 1 layers and the model has 2"):
        model(batch, batch.x)
    hops = gs.autoscale(dgl.nn.TAGConv(5, 5, k=3))
    with pytest.raises(ValueError, match="the sampler drew 1 layers and the model has 3"):
        hops(batch, batch.x)


def test_nodes_without_edges_count_on_the_whole_graph():
    def make():
        return dgl.nn.GraphConv(5, 5)

    graph = make_graph()
    model = gs.autoscale(Written(lambda m, b, x: m.b(b[1], m.a(b[0], x)), make))
    with pytest.raises(ValueError, match=r"node 5[789] of the graph.*add_self_loop.*allow_zero_in_degree=True"):
        gs.infer(model, graph)
    looped = dgl.add_self_loop(graph)
    # In the batch most nodes keep no edge, which DGL's own check would refuse.
    loader = DataLoader(looped, torch.arange(60), ClusterGCNSampler(20, partition="random"), batch_size=1)
    for batch in loader:
        model(batch, batch.x)
    model.a.set_allow_zero_in_degree(True)
    model.b.set_allow_zero_in_degree(True)
    gs.infer(model, graph)


def residual(m, blocks, x):
    h = torch.relu(m.a(blocks[0], x) + x[: blocks[0].num_dst_nodes()])
    return m.b(blocks[1], h) + h[: blocks[1].num_dst_nodes()]


def test_residual_connections():
    """Rows of the destinations are the first rows under every sampler, VR-GCN with dropout apart included."""
    graph, model = make_graph(), Written(residual)
    wanted = residual(model, _Whole(graph), graph.ndata["feat"]).detach()
    gs.autoscale(model)
    torch.testing.assert_close(gs.infer(model, graph, chunk_edges=80), wanted, rtol=1e-4, atol=1e-5)
    partitioned = [GASSampler(6, partition="random"), LMCSampler(6, partition="random", beta=0.0)]
    for sampler in (FullSampler(), *partitioned, VRGCNSampler([3, 3])):
        loader = DataLoader(graph, torch.arange(60), sampler, batch_size=3)
        for batch in loader:
            if loader.history is not None:
                gs.infer(model, graph, history=loader.history)
            torch.testing.assert_close(model(batch, batch.x), wanted[batch.output_nodes], rtol=1e-4, atol=1e-4)


def by_length(m, blocks, x):
    h = torch.relu(m.a(blocks[0], x))
    middle = torch.relu(m.b(blocks[1], h))
    middle = middle + h[: len(middle)]
    return m.c(blocks[2], middle)


@pytest.mark.parametrize("cvd", [True, False])
def test_rows_taken_by_length_are_those_of_the_same_nodes(cvd):
    """With a row for each stream they would be other nodes' rows, without a word."""
    graph, model = make_graph(), Written(by_length)
    model.c = dgl.nn.GraphConv(5, 3, allow_zero_in_degree=True)
    gs.autoscale(model)
    loader = DataLoader(graph, torch.arange(60), VRGCNSampler([2, 2, 2], cvd=cvd), batch_size=20)
    wanted = gs.infer(model, graph, history=loader.history)
    model.train()
    with torch.no_grad():
        for batch in loader:
            torch.testing.assert_close(model(batch, batch.x), wanted[batch.output_nodes], rtol=1e-4, atol=1e-4)


class _Whole(list):
    """The whole graph for each of two blocks."""

    def __init__(self, graph):
        super().__init__([graph, graph])


def test_a_view_answers_like_its_block():
    graph, seen = make_graph(weighted=True), []

    def forward(m, blocks, x):
        for block in blocks:
            assert block.is_block
            assert block.device == torch.device("cpu") == block.to("cpu").int().device
            assert block.num_src_nodes() == block.number_of_src_nodes() == len(block.srcdata[dgl.NID])
            assert block.num_dst_nodes() == block.number_of_dst_nodes() == len(block.dstdata["label"])
            assert block.num_edges() == len(block.edata["weight"])
            seen.append(block)
        torch.testing.assert_close(blocks[0].srcdata["feat"], x)
        return m.b(blocks[1], m.a(blocks[0], blocks[0].srcdata["feat"]))

    batch = first_batch(graph=graph)
    gs.autoscale(Written(forward))(batch, batch.x)
    assert [view.num_edges() for view in seen] == [block.num_edges() for block in batch.blocks]
    model = gs.autoscale(Written(lambda m, b, x: b[0].num_edges(), lambda: dgl.nn.TAGConv(5, 5, k=1)))
    assert model.forward.hops == [1, 1]
    wide = gs.autoscale(Written(lambda m, b, x: b[0].num_edges(), lambda: dgl.nn.TAGConv(5, 5, k=2)))
    batch = first_batch(NeighborSampler([3] * 4))
    with pytest.raises(ValueError, match="stands for 2 hops"):
        wide(batch, batch.x)


# Convolutions without an adapter.


class EdgeMean(nn.Module):
    """A convolution with weights of edges from outside."""

    def forward(self, block, x, weight=None):
        with block.local_scope():
            block.srcdata["h"] = x
            block.edata["w"] = torch.ones(block.num_edges()) if weight is None else weight
            block.update_all(dgl.function.u_mul_e("h", "w", "m"), dgl.function.mean("m", "out"))
            return block.dstdata["out"]


def weighted(m, blocks, x):
    h = m.a(blocks[0], x, blocks[0].edata["weight"])
    return m.b(blocks[1], h, weight=blocks[1].edata["weight"])


def test_what_is_not_known_runs_as_it_is_with_a_warning():
    graph = make_graph(weighted=True)
    model = Written(weighted, EdgeMean)
    wanted = weighted(model, _Whole(graph), graph.ndata["feat"])
    with pytest.warns(UserWarning, match="no adapter for EdgeMean: it runs as it is"):
        gs.autoscale(model, convs=[EdgeMean])
    torch.testing.assert_close(gs.infer(model, graph, chunk_edges=80), wanted, rtol=1e-4, atol=1e-5)
    batch = first_batch(LMCSampler(6, partition="random"), graph, 3)
    with pytest.raises(ValueError, match="given weight, and the sampler runs it on other edges"):
        model(batch, batch.x)


def test_every_convolution_of_dgl_runs_exactly_or_says_what_it_cannot():
    """Those of DGL's other modules that take a graph and rows."""
    graph = dgl.add_self_loop(make_graph(odd=False))
    made = {
        "EdgeConv": dgl.nn.EdgeConv(5, 4),
        "AGNNConv": dgl.nn.AGNNConv(),
        "DotGatConv": Flat(dgl.nn.DotGatConv(5, 4, 1)),
        "ChebConv": dgl.nn.ChebConv(5, 4, 2),
        "GatedGraphConv": dgl.nn.GatedGraphConv(5, 5, 2, 1),
    }
    cannot = {"ChebConv", "GatedGraphConv"}  # they ask for one kind of nodes
    for name, conv in made.items():
        arguments = (torch.zeros(graph.num_edges()),) if name == "GatedGraphConv" else ()
        wanted = conv(graph, graph.ndata["feat"], *arguments).detach()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gs.autoscale(conv)
        if name in cannot:
            with pytest.raises(ValueError, match=f"{name} cannot run on a block"):
                gs.infer(conv, graph, chunk_edges=100)
        else:
            torch.testing.assert_close(gs.infer(conv, graph, chunk_edges=100), wanted, rtol=1e-4, atol=1e-5)
