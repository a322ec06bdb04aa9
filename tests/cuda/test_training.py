"""Training on a GPU: the CPU's batches, its curves up to rounding, and nothing that waits in between."""

import pytest
import torch

pytest.importorskip("dgl")

import gnnscale as gs
from gnnscale.history.streams import Lane
from gnnscale.ops import _backend

SAMPLERS = {
    "full": lambda: gs.samplers.FullSampler(),
    "neighbor": lambda: gs.samplers.NeighborSampler([5, 5]),
    "labor": lambda: gs.samplers.LaborSampler([5, 5]),
    "ladies": lambda: gs.samplers.LADIESSampler([50, 50]),
    "cluster": lambda: gs.samplers.ClusterGCNSampler(8),
    "gas": lambda: gs.samplers.GASSampler(8),
    "lmc": lambda: gs.samplers.LMCSampler(8),
    "graphfm": lambda: gs.samplers.GraphFMSampler(8),
    "vrgcn": lambda: gs.samplers.VRGCNSampler([2, 2]),
    "shadow": lambda: gs.samplers.ShaDowSampler(2, 5),
}
MODELS = ["gcn", "sage", "gat", "pna"]


@pytest.fixture(scope="module")
def data():
    return gs.load("synthetic", num_nodes=600, num_edges=6000)


def make(name, data):
    torch.manual_seed(0)
    return gs.nn.MODELS[name](data.num_features, 16, data.num_classes, num_layers=2, dropout=0.0)


def losses(loader, model):
    found = []
    for batch in loader:
        loss = batch.loss(model(batch, batch.x))
        model.zero_grad()
        loss.backward()
        found.append(loss.item())
    return found


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("sampler", sorted(SAMPLERS.keys() - {"full"}))
@pytest.mark.parametrize("place", ["device", "pinned"])
def test_batches_that_the_kernels_drew_are_the_cpus(data, device, sampler, place, workers):
    """On the host, the loader is told to send and to draw as it would with a GPU."""
    found = []
    for draws in (False, True):
        loader = gs.DataLoader(
            data.graph, data.train_ids, SAMPLERS[sampler](), device if draws else "cpu", batch_size=4, shuffle=True,
            num_workers=workers, graph_placement=place if draws and device.type == "cuda" else "host",
        )  # fmt: skip
        if draws and device.type == "cpu":
            loader._lane, loader._graph, loader._sparse = Lane(), loader._csc.on(device), None
        model = make("gcn", data).to(loader.device)
        found.append(losses(loader, model)[:6] + losses(loader, model)[:6])
    assert found[1] == pytest.approx(found[0], rel=1e-4)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_losses_are_the_cpus(data, device, sampler, model, monkeypatch):
    if sampler == "vrgcn" and model in ("gat", "pna"):
        pytest.skip("vrgcn needs a fixed normalisation")
    found = []
    for where in ("cpu", device):
        with monkeypatch.context() as patch:
            if where == "cpu":
                patch.setattr(_backend, "emulated", None)
            loader = gs.DataLoader(
                data.graph, data.train_ids, SAMPLERS[sampler](), where, batch_size=4, shuffle=True, num_workers=2
            )
            if where == device and device.type == "cpu":
                loader._lane, loader._sparse = Lane(), None
            trained = make(model, data).to(loader.device)
            found.append(losses(loader, trained)[:8] + losses(loader, trained)[:8])
    assert found[1] == pytest.approx(found[0], rel=1e-3)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("placement", ["device", "pinned", "host"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_where_histories_are_changes_no_curve(data, placement, dtype):
    curves = []
    for where, place in (("cpu", "host"), ("cuda", placement)):
        history = gs.HistoryStore(data.num_nodes, placement=place, device=where, dtype=dtype)
        points = gs.train(
            make("gcn", data), data, SAMPLERS["gas"](), epochs=3, batch_size=2, device=where, history=history
        ).points
        curves.append([point.loss for point in points])
    assert curves[1] == pytest.approx(curves[0], rel=1e-3)


@pytest.mark.parametrize("model", MODELS)
def test_mixed_precision(data, model, device):
    curves = []
    for amp in ("none", "bf16"):
        points = gs.train(make(model, data), data, SAMPLERS["gas"](), epochs=2, device=device, amp=amp).points
        curves.append([point.loss for point in points])
    assert curves[1] == pytest.approx(curves[0], rel=0.05)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"graph_placement": "disk"}, "graph_placement='disk' has to be 'host', 'device' or 'pinned'"),
        (
            {"graph_placement": "device"},
            "graph_placement='device' is for a GPU and gnnscale's kernels on it. Pass device",
        ),
    ],
)
def test_a_graph_cannot_be_just_anywhere(data, arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        gs.DataLoader(data.graph, data.train_ids, SAMPLERS["neighbor"](), **arguments)
