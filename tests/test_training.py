"""The shared training loop: it learns, its clock adds up, and it repeats itself."""

import itertools
import math

import pytest
import torch

import gnnscale as gs
from gnnscale.nn import MODELS
from gnnscale.samplers import ClusterGCNSampler, FullSampler, GASSampler, NeighborSampler
from gnnscale.training import parameter_groups


@pytest.fixture(scope="module")
def data():
    return gs.load("synthetic", num_nodes=1500, num_edges=15_000)


def run(data, sampler, *, epochs=4, init=0, **arguments):
    torch.manual_seed(init)
    model = gs.nn.GCN(data.num_features, 16, data.num_classes, dropout=0.3)
    return gs.train(model, data, sampler, epochs=epochs, **arguments)


SAMPLERS = [FullSampler(), NeighborSampler([5, 5]), ClusterGCNSampler(20), GASSampler(20)]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_same_seed_same_curve_whatever_the_workers(data, sampler):
    def curve(**arguments):
        points = run(data, sampler, batch_size=4 if hasattr(sampler, "num_parts") else 50, **arguments).points
        return [(point.epoch, point.loss, point.val, point.test) for point in points]

    inline = curve()
    assert inline == curve(num_workers=2)
    assert inline != curve(init=1)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_every_sampler_learns(data, sampler):
    points = run(data, sampler, epochs=30, batch_size=5 if hasattr(sampler, "num_parts") else 50).points
    assert points[-1].loss < 0.8 * points[0].loss
    majority = torch.bincount(data.graph.ndata["label"]).max().item() / data.num_nodes
    assert max(point.test for point in points) > majority + 0.1


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_the_clock_adds_up(data, sampler, num_workers):
    seen = []
    result = run(data, sampler, num_workers=num_workers, on_point=seen.append)
    assert seen == result.points
    assert [point.epoch for point in seen] == [1, 2, 3, 4]
    assert result.prepare_seconds > 0
    for before, after in itertools.pairwise(seen):
        assert before.train_seconds < after.train_seconds
    last = seen[-1]
    assert last.compute_seconds + last.wait_seconds + last.history_seconds == pytest.approx(last.train_seconds)
    assert (last.history_seconds > 0) == isinstance(sampler, GASSampler)
    made = last.sample_seconds + last.gather_seconds + last.transfer_seconds
    if num_workers == 0:
        assert made <= last.wait_seconds


def test_the_evaluation_refreshes_histories_only_where_asked(data):
    """Right after an epoch, the histories are the exact hidden rows if and only if they are refreshed."""

    class Spying(GASSampler):
        pass

    def staleness(refresh):
        torch.manual_seed(0)
        model = gs.nn.GCN(data.num_features, 16, data.num_classes)
        stores = []
        original = gs.evaluation.Evaluator.infer

        def infer(self, model, *, history=None):
            stores.append(history)
            return original(self, model, history=history)

        gs.evaluation.Evaluator.infer = infer
        try:
            gs.train(model, data, Spying(20, refresh=refresh), epochs=2, lr=0.1)
        finally:
            gs.evaluation.Evaluator.infer = original
        return [store is not None for store in stores], stores[0], model

    for refresh in (True, False):
        given, store, model = staleness(refresh)
        assert given == [True, refresh, refresh]  # the first fills the histories before the first epoch
        fresh = gs.HistoryStore(data.num_nodes)
        gs.infer(model, data.graph, history=fresh)
        ids = torch.arange(data.num_nodes)
        error = (store.pull(0, ids).wait() - fresh.pull(0, ids).wait()).abs().max()
        assert (error < 1e-5) == refresh


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_its_points(data):
    seen = []
    with pytest.raises(FloatingPointError, match="the loss became nan in epoch"):
        run(data, FullSampler(), epochs=50, lr=1e30, on_point=seen.append)
    assert all(math.isfinite(point.loss) for point in seen)


def test_clipping_bounds_the_step(data):
    norms = []

    class Watching(gs.nn.GCN):
        def forward(self, batch, x):
            grads = [p.grad for p in self.parameters() if p.grad is not None]
            if grads and self.training:
                norms.append(torch.cat([g.flatten() for g in grads]).norm().item())
            return super().forward(batch, x)

    model = Watching(data.num_features, 16, data.num_classes)
    gs.train(model, data, FullSampler(), epochs=5, clip_norm=1e-3)
    assert norms
    assert max(norms) <= 1e-3 * 1.001


@pytest.mark.parametrize("name", MODELS)
def test_mixed_precision_trains_as_single_precision_does(data, name):
    losses = {}
    for amp in ("none", "bf16"):
        torch.manual_seed(0)
        model = MODELS[name](data.num_features, 16, data.num_classes, num_layers=2, dropout=0.0)
        points = gs.train(model, data, GASSampler(4), epochs=2, amp=amp).points
        losses[amp] = [point.loss for point in points]
        assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    assert losses["bf16"] == pytest.approx(losses["none"], rel=0.03)
    assert losses["bf16"] != losses["none"]


def test_the_best_point_is_the_first_with_the_best_validation_metric():
    from gnnscale.training import Point, TrainingResult

    points = [Point(epoch, *[0.0] * 8, val, 0.0) for epoch, val in enumerate([0.1, math.nan, 0.5, 0.5, 0.2], 1)]
    assert TrainingResult(points).best.epoch == 3
    with pytest.raises(ValueError, match="there is no point yet"):
        _ = TrainingResult().best


def test_bad_arguments_are_one_sentence(data):
    with pytest.raises(ValueError, match="epochs=0 has to be an integer of at least 1"):
        run(data, FullSampler(), epochs=0)


def test_histories_are_younger_where_evaluation_refreshes_them():
    data = gs.load("synthetic", num_nodes=300, num_edges=3000)

    def staleness(refresh):
        torch.manual_seed(0)
        model = gs.nn.GCN(data.num_features, 8, data.num_classes)
        sampler = gs.samplers.GASSampler(10, refresh=refresh)
        points = gs.train(model, data, sampler, epochs=6, batch_size=2).points
        return [point.staleness for point in points]

    refreshed, kept = staleness(True), staleness(False)
    # Five batches an epoch: a refreshed row is at most four steps old.
    assert all(0 < age <= 4 for age in refreshed)
    assert kept[0] == refreshed[0] < kept[-1]
    assert math.isnan(gs.train(gs.nn.GCN(data.num_features, 8, data.num_classes), data, gs.samplers.FullSampler(),
                               epochs=1).points[0].staleness)  # fmt: skip


def test_rest_weight_decay_is_for_what_the_models_rule_leaves_out(data):
    """One step of Adam from a zero gradient moves a weight by its decay alone: here the sign of the weight times lr."""

    class Still(gs.nn.GCN):
        def forward(self, batch, x):
            return super().forward(batch, x) * 0.0

    def moved(**arguments):
        torch.manual_seed(0)
        model = Still(data.num_features, 16, data.num_classes)
        before = [conv.weight.clone() for conv in model.convs]
        gs.train(model, data, FullSampler(), epochs=1, lr=1e-3, **arguments)
        return [not torch.equal(old, conv.weight) for old, conv in zip(before, model.convs, strict=True)]

    assert moved(weight_decay=0.1) == [True, False]
    assert moved(weight_decay=0.0, rest_weight_decay=0.1) == [False, True]
    assert moved(weight_decay=0.1, rest_weight_decay=0.1) == [True, True]


def test_rest_weight_decay_is_refused_where_all_parameters_decay(data):
    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = gs.nn.GCN(data.num_features, 16, data.num_classes)

        def forward(self, batch, x):
            return self.conv(batch, x)

    (group,) = parameter_groups(Plain(), 0.1)
    assert (len(group["params"]), group["weight_decay"]) == (4, 0.1)
    with pytest.raises(ValueError, match=r"rest_weight_decay=0\.2 is for parameters that have no weight_decay"):
        gs.train(Plain(), data, FullSampler(), epochs=1, rest_weight_decay=0.2)


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({"epochs": "3"}, ValueError, "epochs='3' has to be"),
        ({"lr": "0.1"}, ValueError, "lr='0.1' has to be a number of at least 0"),
        ({"clip_norm": -1.0}, ValueError, "clip_norm=-1.0 has to be a number of at least 0"),
        ({"amp": "fp16"}, ValueError, "amp='fp16' has to be 'none' or 'bf16'"),
        ({"inductive": "yes"}, ValueError, "inductive='yes' has to be True or False"),
        ({"model": None}, TypeError, "model is of type NoneType; pass a torch.nn.Module"),
        ({"data": 3}, TypeError, "data is of type int; pass a gnnscale.Dataset"),
        ({"model": gs.nn.GCN(64, 8, 2)}, ValueError, "logits of 2 classes and the batch has a label"),
        ({"model": gs.nn.GCN(63, 8, 10)}, ValueError, r"the model was made for in_size=63 columns; make it with data"),
        ({"model": gs.nn.GAT(64, 8, 10), "rest_weight_decay": 0.1}, ValueError, "all of GAT's have it; leave it out"),
    ],
)
def test_wrong_arguments_are_one_sentence(arguments, error, sentence):
    data = gs.load("synthetic", num_nodes=300, num_edges=2000)
    given = {"model": gs.nn.GCN(64, 8, 10), "data": data, "sampler": FullSampler(), "epochs": 1, **arguments}
    with pytest.raises(error, match=sentence):
        gs.train(**given)
