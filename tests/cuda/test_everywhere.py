"""Everything that takes a device, on a GPU: what comes out is what comes out on the CPU."""

import copy
import itertools

import pytest
import torch
from torch import nn

pytest.importorskip("dgl")

import gnnscale as gs
from gnnscale._dgl import dgl, dgl_has_cuda
from gnnscale.compare.cell import peaks, train_cell
from gnnscale.compare.plan import Facts, make_cells
from gnnscale.compare.specification import read_specification
from gnnscale.doctor import examine
from gnnscale.estimator.measure import Trajectory, measure
from gnnscale.evaluation import Evaluator
from gnnscale.samplers import SAMPLERS, make_sampler
from tests.cuda import pretended

CPU = torch.device("cpu")
IN_PARTS = ("cluster", "gas", "lmc", "graphfm")
ARGUMENTS = {
    **{name: {"sizes": [40, 40]} for name in ("fastgcn", "ladies", "asgcn")},
    **{name: {"num_parts": 6} for name in IN_PARTS},
    **{name: {"coverage": 5} for name in ("saint-node", "saint-edge", "saint-walk")},
    "ripple": {"size": 50},
}


@pytest.fixture(scope="module")
def data():
    return gs.load("synthetic", num_nodes=150, num_edges=900)


def model_of(data, name="gcn", layers=2):
    torch.manual_seed(0)
    return gs.nn.MODELS[name](data.num_features, 8, data.num_classes, num_layers=layers, dropout=0.0)


def sampler_of(data, name, layers=2):
    return make_sampler(name, num_layers=layers, num_nodes=data.num_nodes, **ARGUMENTS.get(name, {}))


def trained(data, device, sampler="gas", model="gcn", layers=2, **settings):
    """The losses of two epochs, and the model."""
    name, model = sampler, model_of(data, model, layers) if isinstance(model, str) else model
    sampler = sampler_of(data, name, layers) if isinstance(name, str) else name
    settings.setdefault("batch_size", 2 if name in (*IN_PARTS, "ripple") else 60)
    result = gs.train(model, data, sampler, epochs=2, device=device, **settings)
    return [point.loss for point in result.points], model


def same(found, wanted, tolerance=1e-4):
    torch.testing.assert_close(torch.tensor(found), torch.tensor(wanted), rtol=tolerance, atol=tolerance)


# Each sampler with one of the models, with and without mixed precision and prefetch threads, in turn.
CASES = [
    (
        sampler,
        ("gcn", "sage", "appnp")[number % 3] if sampler in ("vrgcn", "asgcn") else ("gat", "pna", "gcn")[number % 3],
        (0, 2)[number // 2 % 2],
        ("none", "bf16")[number % 2],
    )
    for number, sampler in enumerate(SAMPLERS)
]


@pytest.mark.parametrize(("sampler", "model", "workers", "amp"), CASES)
def test_training_with_each_sampler(data, gpu, sampler, model, workers, amp):
    settings = {"num_workers": workers, "amp": amp, "clip_norm": 1.0}
    wanted, _ = trained(data, CPU, sampler, model, **settings)
    same(trained(data, gpu, sampler, model, **settings)[0], wanted, 1e-4 if amp == "none" else 0.03)


@pytest.mark.parametrize(("model", "amp"), [("gcnii", "none"), ("appnp", "bf16"), ("gin", "none")])
def test_deep_models(data, gpu, model, amp):
    wanted, _ = trained(data, CPU, "lmc", model, 4, amp=amp)
    same(trained(data, gpu, "lmc", model, 4, amp=amp)[0], wanted, 1e-4 if amp == "none" else 0.03)


@pytest.mark.parametrize(
    ("placement", "dtype"),
    [
        *((place, dtype) for place in ("pinned", "device", "host") for dtype in ("float32", "bfloat16", "int8")),
        *(("shared", "int8"), ("file", "float16")),
    ],
)
def test_histories_anywhere(data, gpu, placement, dtype, tmp_path):
    curves = []
    for device, place in ((CPU, "host"), (gpu, placement)):
        path = tmp_path / "rows" if place == "file" else None
        history = gs.HistoryStore(data.num_nodes, placement=place, device=device, dtype=dtype, path=path)
        losses, model = trained(data, device, gs.samplers.LMCSampler(6, refresh=True), batch_size=2, history=history)
        curves.append([*losses, history.staleness(0, torch.arange(9)).float().mean().item()])
        outputs = gs.infer_from_history(model, data, history, torch.arange(50))
        curves[-1] += [outputs.norm().item()]
        errors = gs.approximation_error(model, data, history)
        curves[-1] += [errors[-1].error_mean, errors[-1].bound_max]
    same(curves[1], curves[0], 1e-3 if dtype == "float32" else 0.02)


@pytest.mark.parametrize(
    ("free", "places"), [(2**33, ["cuda", "cuda"]), (30_000, ["cuda", "cpu"]), (0, ["cpu", "cpu"])]
)
def test_where_a_loader_puts_histories(data, gpu, free, places, monkeypatch):
    """A table takes at most a quarter of what is free; here each takes 150 rows of 8 numbers."""
    if torch.cuda.get_device_name() == "a pretended GPU":
        left = iter([free] * 3 + [free - 12_000] * 9)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *args: (next(left), 2**34))
    elif free < 2**33:
        pytest.skip("a GPU's memory is as it is")
    loader = gs.DataLoader(data.graph, data.train_ids, sampler_of(data, "gas", 3), gpu, batch_size=2)
    assert loader.history.placement == "auto"
    model = model_of(data, "gcn", 3).to(gpu)
    for batch in loader:
        batch.loss(model(batch, batch.x)).backward()
    tables = loader.history._memory.tables
    assert [table.rows.device.type for table in tables] == places
    assert [table.rows.is_pinned() for table in tables] == [place == "cpu" for place in places]
    loader.history.grow(400)


@pytest.mark.parametrize("cached", [0, 100])
@pytest.mark.parametrize("placement", ["host", "pinned", "device", "file"])
def test_features_anywhere(data, gpu, placement, cached, tmp_path):
    curves = []
    for device, place in ((CPU, "host"), (gpu, placement)):
        features = gs.FeatureStore(
            data.graph.ndata["feat"], placement=place, device=device, cache_rows=cached if device == gpu else 0,
            hot=data.graph.out_degrees() if cached else None, path=tmp_path / "rows" if place == "file" else None,
        )  # fmt: skip
        losses, model = trained(data, device, "neighbor", features=features, num_workers=2)
        outputs = gs.infer(model, data, features=features, chunk_edges=300)
        curves.append([*losses, outputs.norm().item()])
    same(curves[1], curves[0])


def test_exact_outputs_in_chunks(data, gpu):
    history = gs.HistoryStore(data.num_nodes, placement="device", device=gpu)
    model = model_of(data, "pna", 3).eval()
    wanted = gs.infer(model, data)
    there = copy.deepcopy(model).to(gpu)
    for arguments in ({}, {"chunk_edges": 300}, {"chunk_edges": 300, "history": history}):
        found = gs.infer(there, data, **arguments)
        assert found.device == CPU
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert gs.evaluate(there, data, chunk_edges=300) == gs.evaluate(model, data)


@pytest.mark.parametrize("of_store", [False, True])
@pytest.mark.parametrize("room", [True, False])
def test_what_an_evaluator_keeps_on_a_gpu(data, gpu, room, of_store, monkeypatch):
    """Features and edges, if there is room; a second evaluation then waits for nothing but its outputs."""
    if not room:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *args: (0, 0))
    model = model_of(data, "gat").eval()
    features = gs.FeatureStore(data.graph.ndata["feat"], device=gpu) if of_store else None
    wanted, there = gs.infer(model, data), copy.deepcopy(model).to(gpu)
    for chunk_edges in (300, 10**9):
        evaluator = Evaluator(data.graph, gpu, chunk_edges=chunk_edges, features=features)
        for _ in range(2):
            pretended.waits.clear()
            found = evaluator.infer(there)
            copies = pretended.waits.count("_to_copy")
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
        if gpu == pretended.CUDA:
            assert (copies == len(evaluator._bounds)) == room
        data.graph.ndata["feat"][:] = data.graph.ndata["feat"].clone()  # changed, as far as anybody can tell
        assert torch.equal(evaluator.infer(there), found)


@pytest.mark.parametrize("sampler", ["gas", "lmc", "asgcn"])
def test_a_run_goes_on_where_it_was(data, gpu, sampler, tmp_path):
    whole = []
    arguments = {"batch_size": 2 if sampler != "asgcn" else 60, "device": gpu}
    for epochs in (3, 1, 3):
        result = gs.train(
            model_of(data), data, sampler_of(data, sampler), epochs=epochs,
            checkpoint=tmp_path / str(epochs == 3 and not whole), **arguments,
        )  # fmt: skip
        whole.append([point.loss for point in result.points])
    assert whole[2] == pytest.approx(whole[0], rel=1e-6)


def test_dropouts_numbers_go_on_where_they_were(data, gpu, tmp_path):
    whole = []
    for epochs in (3, 1, 3):
        torch.manual_seed(0)
        model = gs.nn.GCN(data.num_features, 8, data.num_classes, dropout=0.5)
        path = tmp_path / str(epochs == 3 and not whole)
        result = gs.train(model, data, gs.samplers.FullSampler(), epochs=epochs, checkpoint=path, device=gpu)
        whole.append([point.loss for point in result.points])
    assert whole[2] == pytest.approx(whole[0], rel=1e-6)


@pytest.mark.parametrize("sampler", ["neighbor", "gas", "lmc"])
def test_the_estimator(data, gpu, sampler):
    found = []
    for device in (CPU, gpu):
        torch.manual_seed(0)
        trajectory = Trajectory(model_of(data), data, 2, 1, lr=0.01, weight_decay=0.0, device=device)
        rows = measure(trajectory, sampler_of(data, sampler), num_layers=2, batch_size=2, draws=4, staleness=[0, 1])
        found.append(rows)
    assert [(row.quantity, row.staleness) for row in found[1]] == [(row.quantity, row.staleness) for row in found[0]]
    errors = [[row.error for row in rows] for rows in found]
    assert errors[1] == pytest.approx(errors[0], rel=1e-3, nan_ok=True)


class Drawn:
    """A user's sampler: DGL's own interface, and no more."""

    def sample_blocks(self, g, seeds, generator):
        blocks, output = [], seeds
        for _ in range(2):
            block = dgl.to_block(dgl.in_subgraph(g, seeds), seeds)
            seeds = block.srcdata[dgl.NID]
            blocks.insert(0, block)
        return seeds, output, blocks


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("sampler", [Drawn, lambda: dgl.dataloading.NeighborSampler([-1, -1])])
def test_samplers_of_others(data, gpu, sampler, workers):
    curves = [trained(data, device, sampler(), num_workers=workers)[0] for device in (CPU, gpu)]
    same(curves[1], curves[0])


class OfDGL(nn.Module):
    def __init__(self, *convs):
        super().__init__()
        self.convs = nn.ModuleList(convs)

    def forward(self, blocks, x):
        for conv, block in zip(self.convs, blocks, strict=True):
            x = conv(block, x).flatten(1)
        return x


CONVS = {
    "GraphConv": lambda a, b: dgl.nn.GraphConv(a, b, allow_zero_in_degree=True),
    "SAGEConv": lambda a, b: dgl.nn.SAGEConv(a, b, "pool"),
    "GATConv": lambda a, b: dgl.nn.GATConv(a, b, 1, allow_zero_in_degree=True),
    "GATv2Conv": lambda a, b: dgl.nn.GATv2Conv(a, b, 1, allow_zero_in_degree=True),
    "GINConv": lambda a, b: dgl.nn.GINConv(nn.Linear(a, b), "max"),
    "TAGConv": lambda a, b: dgl.nn.TAGConv(a, b, 2),
    "PNAConv": lambda a, b: dgl.nn.PNAConv(a, b, ["mean", "max", "std"], ["identity", "amplification"], 2.5),
}


@pytest.mark.parametrize("conv", CONVS)
@pytest.mark.parametrize("sampler", ["gas", "neighbor"])
def test_models_of_dgls_modules(data, gpu, conv, sampler):
    curves = []
    for device in (CPU, gpu):
        torch.manual_seed(0)
        model = gs.autoscale(OfDGL(CONVS[conv](data.num_features, 8), CONVS[conv](8, data.num_classes)))
        hops = sum(each.forward.adapter.hops for each in model.convs)
        losses, _ = trained(data, device, sampler, model, hops)
        curves.append(losses)
    same(curves[1], curves[0])


class Mean(nn.Module):
    """A convolution without an adapter."""

    def __init__(self, in_size, out_size):
        super().__init__()
        self.linear = nn.Linear(in_size, out_size)

    def forward(self, block, h):
        block.srcdata["h"] = self.linear(h)
        block.update_all(dgl.function.copy_u("h", "m"), dgl.function.mean("m", "h"))
        return block.dstdata["h"]


@pytest.mark.filterwarnings("ignore:gnnscale has no adapter")
@pytest.mark.skipif(dgl_has_cuda(), reason="this DGL has blocks on a GPU")
@pytest.mark.parametrize(
    ("conv", "sampler", "sentence"),
    [
        (Mean, "gas", "Mean has no adapter and runs on a block of DGL's on cuda:0, and the DGL that is installed"),
        (Mean, "vrgcn", "Mean has no adapter and runs on a block of DGL's on cuda:0"),
        (lambda a, b: dgl.nn.SAGEConv(a, b, "lstm"), "full", r"SAGEConv\('lstm'\) runs on a block of DGL's on cuda:0"),
    ],
)
def test_what_runs_on_dgls_blocks_is_refused(data, gpu, conv, sampler, sentence):
    model = gs.autoscale(OfDGL(dgl.nn.SAGEConv(data.num_features, 8, "mean"), conv(8, 10)), convs=[Mean])
    assert model.forward.runs_on == {"convs.0": "gnnscale", "convs.1": "DGL block"}
    with pytest.raises(ValueError, match=sentence):
        trained(data, gpu, sampler, model)


@pytest.mark.skipif(dgl_has_cuda(), reason="this DGL has blocks on a GPU")
@pytest.mark.parametrize("sampler", [Drawn, lambda: gs.samplers.NeighborSampler([2, 2])])
def test_blocks_of_a_batch_are_refused(data, gpu, sampler):
    loader = gs.DataLoader(data.graph, data.train_ids, sampler(), gpu, batch_size=20)
    for batch in loader:
        with pytest.raises(ValueError, match=r"batch\.blocks asks for a block of DGL's on cuda:0"):
            _input_nodes, _output_nodes, _blocks = batch


def test_the_doctor_tells_of_the_gpu(gpu):
    found = {finding.subject: finding for finding in examine()}
    assert found["GPU"].state.startswith(torch.cuda.get_device_name())
    assert found["CUDA kernels"].state.startswith("in use")
    assert ("DGL on the GPU" in found) != dgl_has_cuda()


def test_a_step_does_not_wait(data, gpu):
    """The pretended GPU counts: of these samplers, none has the host wait for a number."""
    stores, models = [], itertools.cycle(["pna", "gcn", "gat"])  # each store waits for its end
    for sampler in ("full", "neighbor", "labor", "saint-node", "cluster", "shadow", "pinsage", "gas", "lmc", "vrgcn"):
        stores.append(gs.HistoryStore(data.num_nodes, placement="pinned", device=gpu))
        batch_size = 2 if sampler in IN_PARTS else 60
        loader = gs.DataLoader(
            data.graph, data.train_ids, sampler_of(data, sampler), gpu, batch_size=batch_size, history=stores[-1]
        )
        there = model_of(data, "gcn" if sampler == "vrgcn" else next(models)).to(gpu)
        optimizer = torch.optim.Adam(there.parameters(), fused=True)
        for _ in range(2):
            pretended.waits.clear()
            for batch in loader:
                loss = batch.loss(there(batch, batch.x))
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(there.parameters(), 1.0)
                optimizer.step()
        assert pretended.waits == [], sampler


def test_what_is_done_to_tables_by_themselves_is_seen(data, gpu):
    """Rows are read beside the caller's stream, whose work they otherwise do not wait for."""
    ids = torch.arange(50)
    store = gs.HistoryStore(100, placement="device", device=gpu)
    store.ensure(0, 4)
    assert not store.pull(0, ids).wait().any()
    store.push(0, ids, torch.ones(50, 4, device=gpu))
    store.grow(120)
    assert store.pull(0, ids + 70).wait().sum() == 0
    store.load_state_dict({**store.state_dict(), "step": 3})
    assert store.pull(0, ids).wait().sum() == 200
    features = gs.FeatureStore(torch.ones(100, 4), placement="device", device=gpu, cache_rows=60, hot="access")
    features.recache()
    assert features.pull(ids).wait().sum() == 200


@pytest.mark.parametrize("sampler", ["neighbor", "gas", "lmc(history_placement='pinned')"])
def test_a_cell_of_a_comparison(gpu, sampler):
    facts, points = Facts(150, 900, 1, "accuracy", ""), {}
    for device in ("cpu", "cuda"):
        flags = {"datasets": "synthetic(num_nodes=150, num_edges=900)", "models": "gcn", "samplers": sampler,
                 "device": device, "amp": "bf16", "epochs": 2, "seeds": "0,", "dropout": 0.0}  # fmt: skip
        specification = read_specification(None, flags)
        (cell,) = make_cells(specification, {specification.datasets[0].label: facts})
        points[device] = train_cell(cell, lambda stage: None, lambda point: None, lambda *built: None).points
        assert peaks(device).keys() == {"peak_memory_mb", "peak_device_memory_mb"}
    same([point.loss for point in points["cuda"]], [point.loss for point in points["cpu"]], 0.03)
