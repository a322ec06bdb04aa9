"""The rules that end a training run, and what a run tells of its work."""

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import gnnscale as gs
from gnnscale.samplers import FullSampler, GASSampler, LMCSampler, NeighborSampler, VRGCNSampler
from gnnscale.stopping import StopRules


@pytest.fixture(scope="module")
def data():
    return gs.load("synthetic", num_nodes=300, num_edges=3000)


def run(data, sampler=None, *, epochs=12, model=None, **arguments):
    torch.manual_seed(0)
    model = model or gs.nn.GCN(data.num_features, 8, data.num_classes, dropout=0.0)
    return gs.train(model, data, sampler or FullSampler(), epochs=epochs, **arguments)


def points_of(vals):
    return [SimpleNamespace(val=val, train_seconds=2.0 * epoch) for epoch, val in enumerate(vals, 1)]


VALS = st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4, 0.5, math.nan]), min_size=1, max_size=12)


@given(VALS, st.integers(1, 12), st.none() | st.integers(1, 5), st.none() | st.sampled_from([0.3, 0.5]))
def test_rules_say_what_their_definition_says(vals, epochs, patience, target):
    rules = StopRules(epochs, patience=patience, target=target)
    for count in range(1, len(vals) + 1):
        seen = vals[:count]
        best = max((val for val in seen if not math.isnan(val)), default=-math.inf)
        since = count - (seen.index(best) + 1 if best > 0 else 0)
        expected = "epochs" if count >= epochs else None
        if patience is not None and since >= patience:
            expected = "patience"
        if target is not None and best >= target:
            expected = "target"
        assert rules.met(points_of(seen)) == expected


def test_seconds_end_a_run_after_the_epoch_in_which_they_pass():
    rules = StopRules(100, max_seconds=5)
    assert [rules.met(points_of([0.1] * count)) for count in range(4)] == [None, None, None, "seconds"]


def test_a_run_ends_where_its_curve_says(data):
    whole = run(data)
    vals = [point.val for point in whole.points]
    assert (whole.stopped, len(vals)) == ("epochs", 12)
    target = vals[4]
    at_target = run(data, target=target)
    assert (at_target.stopped, len(at_target.points)) == (
        "target",
        next(epoch for epoch, val in enumerate(vals, 1) if val >= target),
    )
    # A step of no length leaves the metric where it is: the first epoch is the best.
    still = run(data, lr=0, patience=3)
    assert (still.stopped, len(still.points)) == ("patience", 4)
    short = run(data, epochs=10_000, max_seconds=1e-9)
    assert (short.stopped, len(short.points)) == ("seconds", 1)


@pytest.mark.parametrize("rule", [{"patience": 2}, {"target": 0.05, "lr": 0.0}], ids=str)
def test_a_resumed_run_ends_at_the_same_epoch(data, tmp_path, rule):
    """Interrupted after each of its epochs in turn, the run ends where the whole one does, for the same reason."""
    whole = run(data, GASSampler(6), batch_size=2, **rule)
    for interrupted in range(1, len(whole.points) + 1):
        path = tmp_path / f"{interrupted}.pt"
        run(data, GASSampler(6), batch_size=2, **{**rule, "epochs": interrupted}, checkpoint=path)
        resumed = run(data, GASSampler(6), batch_size=2, **rule, checkpoint=path)
        assert resumed.stopped == whole.stopped
        columns = ("epoch", "loss", "val", "steps", "edges")
        assert [[getattr(point, name) for name in columns] for point in resumed.points] == [
            [getattr(point, name) for name in columns] for point in whole.points
        ]


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ({"max_seconds": 0}, "max_seconds=0 has to be a number above 0"),
        ({"max_seconds": "1"}, "max_seconds='1' has to be a number"),
        ({"patience": 0}, "patience=0 has to be an integer of at least 1"),
        ({"target": 82}, "target=82 has to be a fraction above 0, and 1 at most"),
        ({"target": 0}, "target=0 has to be a fraction"),
    ],
)
def test_rules_out_of_range_are_refused(data, rule, sentence):
    with pytest.raises(ValueError, match=sentence):
        run(data, **rule)


def test_steps_and_edges_count_the_work(data):
    """Two layers over the whole graph are twice its edges a step; a sample has fewer, a correction adds its own."""
    edges = data.num_edges
    full = run(data, epochs=3).points
    assert [(point.steps, point.edges) for point in full] == [(1, 2 * edges), (2, 4 * edges), (3, 6 * edges)]
    batches = -(-data.train_ids.numel() // 10)
    sampled = run(data, NeighborSampler([2, 2]), batch_size=10, epochs=2).points
    assert [point.steps for point in sampled] == [batches, 2 * batches]
    assert 0 < sampled[-1].edges < batches * 2 * edges
    corrected = run(data, VRGCNSampler([2, 2]), batch_size=10, epochs=2).points
    assert corrected[-1].edges > sampled[-1].edges
    # With all parts in one batch, GAS is the full batch, and LMC adds the halo's edges: none.
    for sampler in (GASSampler(4), LMCSampler(4)):
        assert run(data, sampler, batch_size=4, epochs=1).points[0].edges == 2 * edges


def test_evaluation_is_timed_apart(data):
    points = run(data, epochs=4).points
    seconds = [point.evaluation_seconds for point in points]
    assert 0 < seconds[0] < seconds[1] < seconds[2] < seconds[3]
    # An evaluation that refreshes histories is part of the method, and not counted twice.
    refreshed = run(data, GASSampler(4), batch_size=2, epochs=2).points
    assert refreshed[-1].evaluation_seconds < refreshed[-1].history_seconds
