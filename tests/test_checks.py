"""Arguments from NumPy: its integers are as good as Python's, and what is no integer is refused all the same."""

import numpy as np
import pytest

import gnnscale as gs
from gnnscale.samplers import make_sampler
from gnnscale.samplers.asgcn import ASGCNSampler
from gnnscale.samplers.labor import LaborSampler
from gnnscale.samplers.layerwise import FastGCNSampler
from gnnscale.samplers.mvs import MVSSampler
from gnnscale.samplers.partition import partition
from gnnscale.samplers.pinsage import PinSAGESampler
from gnnscale.samplers.ripple import RippleWalkSampler
from gnnscale.samplers.saint import SAINTSampler
from gnnscale.samplers.shadow import ShaDowPPRSampler, ShaDowSampler

TWO = np.int64(2)


@pytest.mark.parametrize(
    ("make", "plain"),
    [
        (gs.samplers.NeighborSampler, ([2, -1],)),
        (LaborSampler, ([2, 2],)),
        (FastGCNSampler, ([2, 2],)),
        (PinSAGESampler, ([2, 2],)),
        (RippleWalkSampler, (2,)),
        (ShaDowSampler, (2, 2)),
        (ShaDowPPRSampler, (2,)),
        (gs.samplers.ClusterGCNSampler, (2,)),
    ],
)
def test_integers_of_numpy_are_kept_as_those_of_python(make, plain):
    given = [list(np.array(value)) if isinstance(value, list) else np.int64(value) for value in plain]
    assert repr(make(*given)) == repr(make(*plain))


def test_named_arguments_may_be_integers_of_numpy(odd_graph):
    assert type(MVSSampler(num_layers=TWO, ratio=TWO).ratio) is int
    assert type(SAINTSampler(walk_length=TWO, num_layers=TWO).num_layers) is int
    assert type(LaborSampler([TWO], importance_sampling=TWO).importance_sampling) is int
    assert type(ASGCNSampler([TWO], seed=TWO).seed) is int
    assert partition(odd_graph, TWO, "random").equal(partition(odd_graph, 2, "random"))
    with pytest.raises(ValueError, match="num_parts=61 is more than the graph's 60 nodes"):
        make_sampler("cluster", num_layers=2, num_nodes=60, num_parts=np.int64(61))
    assert len(gs.nn.GAT(TWO, np.int32(4), TWO, num_layers=TWO, heads=TWO).convs) == 2


@pytest.mark.parametrize("wrong", [True, np.True_, np.float64(2.0), np.array([2]), "2", None])
def test_what_is_no_integer_is_refused(wrong):
    for make in (RippleWalkSampler, gs.samplers.GASSampler, ShaDowSampler):
        with pytest.raises(ValueError, match="has to be a positive integer"):
            make(wrong)
    with pytest.raises(ValueError, match=r"fanouts=.* has to be a list with one number of neighbours a layer"):
        gs.samplers.NeighborSampler([2, wrong])
