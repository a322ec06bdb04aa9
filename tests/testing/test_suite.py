"""gnnscale's own samplers pass the conformance suite, and broken twins of each family fail it."""

import pickle

import pytest

from gnnscale._dgl import dgl
from gnnscale.history import HistoryStore
from gnnscale.samplers import SAMPLERS, NeighborSampler, make_sampler
from gnnscale.testing import CHECKS, ConformanceError, check_sampler, parametrize_with_checks
from tests.testing import broken
from tests.testing.broken import twin

CHECK = {check.name: check for check in CHECKS}

# Arguments with which something is left out on graphs of 60 nodes.
SMALL = {
    "neighbor": {"fanouts": [3, 3]},
    "labor": {"fanouts": [3, 3]},
    "mvs": {"fanouts": [3, 3]},
    "fastgcn": {"sizes": [20, 20]},
    "ladies": {"sizes": [20, 20]},
    "asgcn": {"sizes": [20, 20]},
    "pinsage": {"num_neighbors": [3, 3]},
    "ppr": {"num_neighbors": [3, 3], "num_walks": 5},
    "shadow": {"num_neighbors": 3},
    "shadow-ppr": {"num_neighbors": 5, "num_walks": 10},
    "ripple": {"size": 20},
    "cluster": {"num_parts": 8},
    "vrgcn": {"fanouts": [2, 2]},
    "gas": {"num_parts": 8},
    "lmc": {"num_parts": 8},
    "graphfm": {"num_parts": 8},
}


def small(name, **arguments):
    return make_sampler(name, num_layers=2, num_nodes=60, **SMALL.get(name, {}), **arguments)


@pytest.mark.parametrize("name", SAMPLERS)
def test_gnnscales_own_samplers_pass(name):
    check_sampler(small(name), draws=200)


@pytest.mark.parametrize(
    "sampler",
    [
        small("neighbor", replace=True),
        small("ladies", debias=True),
        small("labor", importance_sampling=2),
        small("vrgcn", cvd=False),
        small("lmc", beta=0.5, score="const"),
        small("cluster", diag_lambda=1.0),
    ],
    ids=repr,
)
def test_so_do_their_variants(sampler):
    check_sampler(sampler, draws=200)


def test_so_do_blocks_of_dgl():
    check_sampler(dgl.dataloading.NeighborSampler([3, 3]), draws=200)
    check_sampler(broken.BlockSampler(), draws=200)


@pytest.mark.parametrize(
    ("name", "change", "check"),
    [
        ("full", broken.half_the_edges, "estimate_plain"),
        ("neighbor", broken.plain_weights, "estimate_plain"),
        ("neighbor", broken.wrong_probability, "estimate_weighted"),
        ("neighbor", broken.sample_degrees, "estimate_odd"),
        ("labor", broken.plain_weights, "estimate_plain"),
        ("labor", broken.sample_degrees, "estimate_weighted"),
        ("mvs", broken.wrong_probability, "estimate_plain"),
        ("mvs", broken.heavier_loss, "loss"),
        ("fastgcn", broken.plain_weights, "estimate_plain"),
        ("fastgcn", broken.wrong_probability, "estimate_odd"),
        ("ladies", broken.plain_weights, "estimate_plain"),
        ("ladies", broken.sample_degrees, "estimate_plain"),
        ("asgcn", broken.wrong_probability, "estimate_weighted"),
        ("pinsage", broken.raw_counts, "estimate_plain"),
        ("ppr", broken.raw_counts, "estimate_weighted"),
        ("saint-node", broken.plain_weights, "estimate_plain"),
        ("saint-edge", broken.sample_degrees, "estimate_plain"),
        ("saint-walk", broken.turned_round, "edges"),
        ("saint-node", broken.no_loss_weight, "loss"),
        ("shadow", broken.plain_weights, "estimate_plain"),
        ("shadow-ppr", broken.plain_weights, "estimate_weighted"),
        ("ripple", broken.plain_weights, "estimate_odd"),
        ("cluster", broken.plain_weights, "estimate_plain"),
        ("cluster", broken.turned_round, "edges"),
        ("vrgcn", broken.plain_weights, "estimate_plain"),
        ("vrgcn", broken.wrong_probability, "estimate_weighted"),
        ("gas", broken.half_the_edges, "estimate_plain"),
        ("gas", broken.sample_degrees, "estimate_plain"),
        ("lmc", broken.half_the_edges, "estimate_odd"),
        ("graphfm", broken.sample_degrees, "estimate_weighted"),
    ],
)
def test_a_broken_twin_fails(name, change, check):
    with pytest.raises(AssertionError, match=r"\w{3,}.*[;:,]"):
        CHECK[check](twin(small(name), change), draws=200)


@pytest.mark.parametrize(
    ("sampler", "check", "sentence"),
    [
        (broken.Flipped(), "edges", "run against the graph's: an edge u → v carries u's row to v"),
        (broken.IdsOfTheFrontier(), "edges", "belong to other edges of the graph"),
        (broken.SampleDegrees(), "estimate_plain", "standard errors away"),
        (broken.ForgetsSeeds(), "coverage", "some training nodes count twice and others never"),
        (broken.Unseeded(), "same_seed", "no result can be repeated"),
        (broken.Counting(), "order_of_draws", "a run cannot be resumed"),
        (broken.FixedCoins(), "estimate_plain", "and hardly varies"),
        (broken.Unpicklable(), "pickle", "cannot be pickled"),
        (broken.FailsOnIsolatedNodes(), "odd_graphs", "stopped with ZeroDivisionError: division by zero"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, broken.BlockSampler) else "",
)
def test_a_mistake_is_told_in_a_sentence(sampler, check, sentence):
    with pytest.raises(AssertionError, match=sentence):
        CHECK[check](sampler, draws=200)


def test_halo_rows_that_are_not_those_of_the_history_are_found(monkeypatch):
    monkeypatch.setattr(HistoryStore, "push", lambda self, layer, ids, rows: self.ensure(layer, rows.shape[1]))
    with pytest.raises(AssertionError, match="reads other rows of absent nodes than the history has"):
        CHECK["estimate_plain"](small("gas"))


def test_all_failures_are_listed_with_their_reasons():
    with pytest.raises(ConformanceError) as caught:
        check_sampler(broken.ForgetsSeeds(), draws=200)
    assert set(caught.value.failures) == {"coverage"}
    assert "ForgetsSeeds fails 1 of 13 checks:\n- coverage: the outputs of a batch are" in str(caught.value)


def test_an_undeclared_kind_of_estimate_is_refused():
    sampler = NeighborSampler([3])
    sampler.estimate = "good"
    with pytest.raises(AssertionError, match="estimate='good' is not known"):
        CHECK["estimate_odd"](sampler)


def test_what_is_no_sampler_is_refused():
    with pytest.raises(TypeError, match="is the class NeighborSampler; pass an instance"):
        check_sampler(NeighborSampler)
    with pytest.raises(TypeError, match="has no sample_blocks"):
        check_sampler(3)
    with pytest.raises(ValueError, match="draws=5 has to be a whole number of at least 200"):
        check_sampler(NeighborSampler([3]), draws=5)


@parametrize_with_checks([lambda: NeighborSampler([2])])
def test_a_function_that_makes_a_sampler_will_do(sampler, check):
    if not check.name.startswith("estimate"):
        check(sampler, draws=200)


def test_the_checks_have_readable_names():
    mark = parametrize_with_checks([NeighborSampler([3, 3]), broken.BlockSampler()])
    names = [parameter.id for parameter in mark.args[1]]
    assert "NeighborSampler(fanouts=[3, 3])-blocks" in names
    assert "BlockSampler-estimate_weighted" in names
    assert all(check.meaning.endswith(".") for check in CHECKS)


def test_the_sampler_that_is_checked_stays_as_it_was():
    sampler = small("gas")
    before = pickle.dumps(sampler)
    check_sampler(sampler, draws=200)
    assert pickle.dumps(sampler) == before
