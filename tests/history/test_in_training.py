"""Where histories live, and when they are asked for, changes no number of a training run."""

import math

import pytest
import torch

import gnnscale as gs
from gnnscale.history import HistoryStore
from gnnscale.ops import backend
from gnnscale.samplers import make_sampler

needs_native = pytest.mark.skipif(backend() != "native", reason="shared and file need the native operations")
CHOICES = {
    "gas": {"num_parts": 10},
    "vrgcn": {"fanouts": [1, 1, 1]},
    "lmc": {"num_parts": 10, "beta": 0.5},
    "graphfm": {"num_parts": 10, "refresh": False},
}


@pytest.fixture(scope="module")
def data():
    return gs.load("synthetic", num_nodes=600, num_edges=6000)


def train(data, name, *, epochs=4, **arguments):
    torch.manual_seed(0)
    model = gs.nn.GCN(data.num_features, 16, data.num_classes, num_layers=3, dropout=0.3)
    sampler = make_sampler(name, num_layers=3, num_nodes=data.num_nodes, **CHOICES[name])
    # An odd number of batches, of which the last is smaller.
    return gs.train(
        model, data, sampler, epochs=epochs, batch_size=3 if "num_parts" in CHOICES[name] else 70, **arguments
    )


def curve(result):
    return [(p.loss, p.val, p.test, p.staleness, p.staleness_max, p.staleness_histogram) for p in result.points]


@pytest.mark.parametrize("name", CHOICES)
def test_asking_ahead_changes_no_number(data, name):
    """Not even those that say how old the rows were."""
    expected = curve(train(data, name, history_ahead=False))
    assert curve(train(data, name)) == expected
    assert curve(train(data, name, num_workers=2)) == expected


@needs_native
@pytest.mark.parametrize("name", CHOICES)
def test_the_placement_changes_no_number(data, name, tmp_path):
    expected = curve(train(data, name))
    for placement, path in (("shared", None), ("file", tmp_path / "history")):
        history = HistoryStore(600, placement=placement, path=path)
        assert curve(train(data, name, history=history)) == expected


@pytest.mark.parametrize("name", CHOICES)
def test_fewer_bits_take_less_memory_and_learn_about_as_well(data, name):
    exact = train(data, name, epochs=12)
    bytes_pulled = []
    for dtype in ("float16", "bfloat16", "int8"):
        history = HistoryStore(600, dtype=dtype)
        result = train(data, name, epochs=12, history=history)
        bytes_pulled.append(result.points[-1].history_bytes_pulled)
        assert result.points[-1].loss != exact.points[-1].loss  # the rows are other rows
        assert result.points[-1].loss == pytest.approx(exact.points[-1].loss, rel=0.1)
        assert history.dtype == getattr(torch, dtype)
    of_float32 = exact.points[-1].history_bytes_pulled
    assert bytes_pulled[:2] == [of_float32 // 2] * 2
    # int8 has a scale beside the 16 numbers of a row (and the 10 of a gradient's).
    assert of_float32 * 20 / 64 <= bytes_pulled[2] < of_float32 * 21 / 64


def batches_of(data, **arguments):
    model = gs.nn.GCN(data.num_features, 16, data.num_classes, num_layers=3)
    loader = gs.DataLoader(
        data.graph, data.train_ids, gs.samplers.GASSampler(10), batch_size=3, history=HistoryStore(600, [16, 16]),
        **arguments,
    )  # fmt: skip
    return model, loader


@pytest.mark.parametrize("ahead", [True, False])
def test_rows_are_asked_for_before_the_backward_pass(data, ahead, monkeypatch):
    events = []
    pull = HistoryStore.pull
    monkeypatch.setattr(HistoryStore, "pull", lambda *args, **kwargs: events.append("pull") or pull(*args, **kwargs))
    model, loader = batches_of(data, history_ahead=ahead)
    for batch in loader:
        events.append("forward")
        loss = batch.loss(model(batch, batch.x))
        events.append("backward")
        loss.backward()
    steps = len(loader)
    assert events.count("pull") == 2 * steps  # one a table and batch
    ahead_of_time = ["forward", "pull", "pull", "backward"]
    expected = ["pull", "pull", *ahead_of_time * (steps - 1), "forward", "backward"] if ahead else ahead_of_time * steps
    assert events == expected


def test_rows_that_change_after_they_were_asked_for_are_asked_for_again(data):
    model, loader = batches_of(data)
    model.eval()
    batches = iter(loader)
    first = next(batches)
    first.loss(model(first, first.x))  # asks for the second's rows
    for table in (0, 1):
        loader.history.push(table, torch.arange(600), torch.full((600, 16), 7.0))
    second = next(batches)
    layer = second.layers(3)[1]
    num_own = layer.num_dst
    rows = layer.exchange(torch.zeros(num_own, 16))
    assert len(rows) > num_own
    assert (rows[num_own:] == 7.0).all()


def test_a_step_that_never_asks_for_a_loss_works_as_well(data):
    def outputs(ahead):
        torch.manual_seed(0)
        model, loader = batches_of(data, history_ahead=ahead)
        return torch.cat([model(batch, batch.x).detach() for _ in range(2) for batch in loader])

    assert torch.equal(outputs(True), outputs(False))


def test_leaving_an_epoch_early_leaves_nothing_behind(data):
    torch.manual_seed(0)
    model, loader = batches_of(data, num_workers=2)
    for batch in loader:
        batch.loss(model(batch, batch.x)).backward()
        break
    assert loader.history.step == 0  # the step was not completed
    assert sum(1 for _ in loader) == len(loader)


def test_evaluation_is_exact_whatever_the_history_stores(data):
    model = gs.nn.GCN(data.num_features, 16, data.num_classes, num_layers=3)
    history = HistoryStore(600, dtype="int8")
    exact = gs.infer(model, data.graph)
    for chunk_edges in (1000, 10**6):
        assert torch.allclose(gs.infer(model, data.graph, history=history, chunk_edges=chunk_edges), exact, atol=1e-5)
        assert history.widths == [16, 16]
        assert history.pull(1, torch.arange(600)).wait().abs().sum() > 0


def test_the_columns_of_a_point_are_those_of_the_traffic(data):
    result = train(data, "gas", history_ahead=False)
    (loader,) = [gs.DataLoader(data.graph, data.train_ids, gs.samplers.GASSampler(10), batch_size=3)]
    halo = sum(len(batch.input_nodes) - len(batch.output_nodes) for batch in loader)
    for epoch, point in enumerate(result.points, start=1):
        assert point.history_bytes_pushed == epoch * 2 * 600 * 16 * 4  # each node, in both tables
        assert sum(point.staleness_histogram) * 16 * 4 * epoch == pytest.approx(point.history_bytes_pulled, rel=0.3)
        assert 0 < point.history_wait_seconds < point.history_seconds
        assert point.staleness <= point.staleness_max
    assert result.points[0].history_bytes_pulled == pytest.approx(2 * halo * 16 * 4, rel=0.3)
    without = gs.train(
        gs.nn.GCN(data.num_features, 8, data.num_classes), data, gs.samplers.FullSampler(), epochs=1
    ).points[0]
    assert math.isnan(without.staleness_max)
    assert (without.staleness_histogram, without.history_bytes_pulled) == ((), 0)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("sampler", [gs.samplers.NeighborSampler([3, 3]), gs.samplers.GASSampler(10)], ids=repr)
def test_features_from_a_store_give_the_same_curve(data, sampler, num_workers):
    def losses(features):
        torch.manual_seed(0)
        model = gs.nn.GCN(data.num_features, 16, data.num_classes)
        result = gs.train(
            model, data, sampler, epochs=2, batch_size=5, num_workers=num_workers, features=features
        )  # fmt: skip
        return [(point.loss, point.test) for point in result.points]

    store = gs.FeatureStore(data.graph.ndata["feat"], cache_rows=50, hot=data.graph.out_degrees())
    assert losses(store) == losses(None)
    assert store.statistics().hit_rate > 0.08  # more than the 50 of 600 that a cache of any rows would have


def test_a_graph_without_features_has_them_in_a_store(data):
    graph = data.graph.clone()
    features = gs.FeatureStore(graph.ndata.pop("feat"))
    model = gs.nn.GCN(data.num_features, 16, data.num_classes)
    loader = gs.DataLoader(graph, data.train_ids, gs.samplers.NeighborSampler([3, 3]), batch_size=50, features=features)
    for batch in loader:
        batch.loss(model(batch, batch.x)).backward()
    for chunk_edges in (1000, 10**6):
        logits = gs.infer(model, graph, features=features, chunk_edges=chunk_edges)
        assert torch.allclose(logits, gs.infer(model, data.graph), atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({"history": HistoryStore(5)}, ValueError, "history has 5 rows and the graph 600 nodes; it needs one for each"),
        ({"features": torch.ones(600, 3)}, TypeError, "features is of type Tensor; pass a gnnscale.FeatureStore"),
        ({"features": gs.FeatureStore(torch.ones(5, 3))}, ValueError, "features has 5 rows and the graph 600 nodes"),
        ({"history_ahead": "yes"}, ValueError, "history_ahead='yes' has to be True or False"),
    ],
)
def test_bad_input_is_one_sentence(data, arguments, error, sentence):
    with pytest.raises(error, match=sentence):
        gs.DataLoader(data.graph, data.train_ids, gs.samplers.GASSampler(10), **arguments)
