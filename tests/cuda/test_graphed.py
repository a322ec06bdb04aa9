"""Steps as CUDA graphs: the curve is that of ordinary steps, and what a graph cannot be is refused."""

import pytest
import torch

pytest.importorskip("dgl")

import gnnscale as gs
from gnnscale.compare.source import SpecificationError
from gnnscale.compare.specification import read_specification
from tests.cuda import pretended

SAMPLERS = {
    "full": (gs.samplers.FullSampler, None),
    "single parts": (lambda: gs.samplers.ClusterGCNSampler(3), 1),
    "all parts": (lambda: gs.samplers.ClusterGCNSampler(3), 3),
}


@pytest.fixture(scope="module")
def data():
    return gs.load("synthetic", num_nodes=100, num_edges=700)


def trained(data, gpu, model="gcn", sampler="full", *, epochs=6, dropout=0.0, **settings):
    make, batch_size = SAMPLERS[sampler]
    if isinstance(model, str):
        torch.manual_seed(0)
        model = gs.nn.MODELS[model](
            data.num_features, 8, data.num_classes, num_layers=2, dropout=dropout, norm=settings.pop("norm", None)
        )
    result = gs.train(model, data, make(), epochs=epochs, batch_size=batch_size, device=gpu, lr=0.05, **settings)
    return [(point.loss, point.val, point.edges, point.steps) for point in result.points]


@pytest.mark.parametrize(
    ("sampler", "model", "settings"),
    [
        ("full", "gcn", {"clip_norm": 0.5}),
        ("full", "pna", {"norm": "batch"}),
        ("single parts", "gat", {"amp": "bf16"}),
        ("single parts", "gcn", {"norm": "batch"}),
        ("all parts", "gcnii", {"num_workers": 2}),
    ],
)
def test_the_curve_is_that_of_ordinary_steps(data, gpu, sampler, model, settings):
    ordinary, graphed = (trained(data, gpu, model, sampler, cuda_graph=on, **settings) for on in (False, True))
    assert torch.tensor(graphed).allclose(torch.tensor(ordinary), rtol=1e-4)
    assert graphed[-1][0] < 0.9 * graphed[0][0]


def test_dropout_draws_anew(data, gpu):
    torch.manual_seed(0)
    model = gs.nn.GCN(data.num_features, 8, data.num_classes, dropout=0.5)
    losses = [point[0] for point in trained(data, gpu, model, epochs=9, cuda_graph=True, weight_decay=0.0)]
    model = gs.nn.GCN(data.num_features, 8, data.num_classes, dropout=0.5)
    assert len(set(losses)) == 9


class Odd(gs.nn.GCN):
    """A GCN that does something odd in the middle."""

    def __init__(self, data, does):
        torch.manual_seed(0)
        super().__init__(data.num_features, 8, data.num_classes, dropout=0.0)
        self.does = does

    def forward(self, batch, x):
        return self.does(super().forward(batch, x))


def test_a_number_of_the_hosts_would_stay_what_it_was(data, gpu):
    """So these tests see it: a model that counts its steps in Python."""
    steps = []

    def scaled(x):
        steps.append(None)
        return x * (1 + len(steps))

    ordinary, graphed = (trained(data, gpu, Odd(data, scaled), cuda_graph=on)[-1] for on in (False, True))
    assert graphed != pytest.approx(ordinary)


@pytest.mark.parametrize(
    ("does", "error", "sentence"),
    [
        (lambda x: x * (1 if x.sum().item() else 0), RuntimeError, "the step of Odd cannot be a CUDA graph"),
        (lambda x: x[x.isfinite().all(1)], RuntimeError, "the step of Odd cannot be a CUDA graph"),
        (lambda x: gs.ops.dropout(x, 0.5), ValueError, "Odd draws random numbers on the CPU"),
    ],
)
def test_what_the_host_has_to_do_with_is_refused(data, gpu, does, error, sentence):
    assert len(trained(data, gpu, Odd(data, does))) == 6
    with pytest.raises(error, match=sentence):
        trained(data, gpu, Odd(data, does), cuda_graph=True)


@pytest.mark.parametrize("name", ["neighbor", "gas", "lmc", "vrgcn", "asgcn", "mvs", "saint-node", "cluster"])
def test_samplers_that_draw_anew_are_refused(data, gpu, name):
    arguments = {"sizes": [9, 9]} if name == "asgcn" else {}
    sampler = gs.samplers.make_sampler(name, num_layers=2, num_nodes=100, **arguments)
    model = gs.nn.GCN(data.num_features, 8, data.num_classes)
    with pytest.raises(ValueError, match="cuda_graph=True needs batches that are the same in each epoch"):
        gs.train(model, data, sampler, epochs=1, device=gpu, cuda_graph=True)


def test_in_a_comparison(gpu):
    flags = {"datasets": "cora", "models": "gcn", "device": "cuda"}
    read_specification(
        None, flags | {"samplers": "full(cuda_graph=True),neighbor,cluster(cuda_graph=True,batch_size=1)"}
    )
    with pytest.raises(SpecificationError) as caught:
        read_specification(None, flags | {"samplers": "full,gas,cluster", "cuda_graph": True})
    first, second = caught.value.problems
    assert "cuda_graph=True needs batches that are the same in each epoch, and GASSampler" in first
    assert "ClusterGCNSampler" in second


def test_there_are_none_on_the_cpu(data):
    model = gs.nn.GCN(data.num_features, 8, data.num_classes)
    with pytest.raises(ValueError, match=r"cuda_graph=True is for a GPU; pass device='cuda' \(got 'cpu'\)"):
        gs.train(model, data, gs.samplers.FullSampler(), epochs=1, cuda_graph=True)


def test_it_goes_on_from_a_checkpoint(data, gpu, tmp_path):
    curves = [
        trained(data, gpu, epochs=epochs, checkpoint=tmp_path / name, cuda_graph=on)
        for epochs, name, on in ((9, "whole", True), (4, "in two", True), (9, "in two", True), (9, "ordinary", False))
    ]
    assert torch.tensor(curves[2]).allclose(torch.tensor(curves[0]), rtol=1e-5)
    assert torch.tensor(curves[3]).allclose(torch.tensor(curves[0]), rtol=1e-5)


def test_a_graph_does_nothing_when_it_is_captured(gpu):
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    stream.wait_stream(torch.cuda.current_stream())
    x, y = torch.ones(9, device=gpu), torch.zeros(9, device=gpu)
    torch.cuda.synchronize()
    with torch.cuda.graph(graph, stream=stream):
        y.add_(x)
        z = y * 2
    torch.cuda.synchronize()
    assert y.sum().item() == 0
    if gpu == pretended.CUDA:
        assert z.isnan().all().item()
    graph.replay()
    graph.replay()
    assert (y.sum().item(), z.sum().item()) == (18, 36)
