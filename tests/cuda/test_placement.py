"""Graphs that a GPU draws from: what is refused, what other streams use, and what is freed."""

import copy
import gc
import pickle
import weakref

import pytest
import torch

pytest.importorskip("dgl")

import gnnscale as gs
from gnnscale._dgl import dgl
from gnnscale.csc import CSC
from gnnscale.ops import gpu_sampling, sample_labor, sample_neighbors
from gnnscale.ops.subgraph import edges_between, edges_from
from gnnscale.ops.walks import random_walks
from tests.cuda import pretended

SEEDS = torch.tensor([4, 1])


@pytest.fixture
def gpu(host_kernels):
    with pretended.gpu(host_kernels):
        yield pretended.CUDA


@pytest.fixture(scope="module")
def data():
    return gs.load("synthetic", num_nodes=300, num_edges=3000)


def loader_of(data, sampler, placement="device", **options):
    options = {"batch_size": 2, "seed": 5, **options}
    return gs.DataLoader(data.graph, data.train_ids, sampler, "cuda", graph_placement=placement, **options)


def epoch(loader, norm="mean"):
    """Sums of rows of the last layer, added up."""
    return [batch.layers(2)[1].aggregate(batch.x[: batch.layers(2)[1].num_src], norm).sum() for batch in loader]


# --- what is refused


@pytest.mark.parametrize("seeds", [[4, 4], [4, 10], [4, -1], [4] * 30])
def test_wrong_seeds_are_refused_as_on_the_cpu(device, seeds):
    csc, seeds = CSC.of(dgl.rand_graph(10, 40)), torch.tensor(seeds)
    there = seeds.to(device), csc.indptr.to(device), csc.indices.to(device)
    sentences = []
    for ids, *graph in ((seeds, csc.indptr, csc.indices), there):
        for fanouts in ([2, 2], [-1]):
            with pytest.raises(ValueError, match="seeds") as refused:
                sample_neighbors(*graph, ids, fanouts, key=0)
            sentences.append(str(refused.value))
    assert len(set(sentences)) == 1


def test_there_is_room_for_what_repeated_seeds_draw():
    assert gpu_sampling._room(10, [4, 4], 9) == [(10, 40, 19), (19, 76, 19)]
    assert gpu_sampling._room(2, [3, 0], 100) == [(2, 6, 8), (8, 0, 8)]


def test_lists_with_a_node_twice_are_refused_by_their_names(device):
    csc = CSC.of(dgl.rand_graph(10, 40))
    graph, twice, once = (
        (csc.indptr.to(device), csc.indices.to(device)),
        torch.tensor([3, 3]).to(device),
        SEEDS.to(device),
    )
    with pytest.raises(ValueError, match="sources holds node 3 more than once"):
        edges_between(*graph, once, twice)
    with pytest.raises(ValueError, match="drawn holds node 3 more than once"):
        edges_from(*graph, once, twice)
    with pytest.raises(ValueError, match="destinations holds node 3 more than once"):
        edges_from(*graph, twice, once)


def test_a_graph_of_too_many_nodes_is_refused(device, monkeypatch):
    csc = CSC.of(dgl.rand_graph(10, 40))
    monkeypatch.setattr(gpu_sampling, "_NOWHERE", 10)
    for draw in (sample_neighbors, sample_labor):
        with pytest.raises(ValueError, match="the graph has 10 nodes; a GPU samples from less"):
            draw(csc.indptr.to(device), csc.indices.to(device), SEEDS.to(device), [2], key=0)


def test_walks_start_where_the_graph_is(gpu):
    csc = CSC.of(dgl.rand_graph(10, 40))
    for graph, starts in ((csc, SEEDS.to(gpu)), (csc.on(gpu), SEEDS)):
        with pytest.raises(ValueError, match=r"pass starts\.to"):
            random_walks(graph, starts, 2, key=0)


def test_a_sampler_that_only_says_it_could_is_refused(gpu, data):
    class OnlyBlocks:
        draws_on_gpu = True

        def sample_blocks(self, g, seeds):
            raise NotImplementedError

    with pytest.raises(ValueError, match="is for samplers that a GPU can draw"):
        loader_of(data, OnlyBlocks())


# --- what is drawn


def test_division_rounds_as_on_the_cpu(gpu):
    degrees = torch.arange(500)
    for fanout in (1, 3, 49, 93):
        assert torch.equal(gpu_sampling._shares(degrees.to(gpu), fanout).cpu(), degrees.double() / fanout)


def test_no_seeds(device):
    graph = torch.tensor([0, 1, 2]).to(device), torch.tensor([1, 0]).to(device)
    for fanouts in ([2, 0], [-1]):
        nodes, hops, _ = sample_neighbors(*graph, SEEDS[:0].to(device), fanouts, key=0)
        assert not len(nodes)
        assert [hop.indptr.tolist() for hop in hops] == [[0]] * len(fanouts)


@pytest.mark.parametrize("placement", ["device", "pinned"])
def test_a_graph_without_edges(gpu, placement):
    graph = dgl.graph(([], []), num_nodes=20)
    for sampler in (
        gs.samplers.NeighborSampler([2, 2]),
        gs.samplers.LADIESSampler([3, 3]),
        gs.samplers.PPRSampler([2]),
    ):
        loader = gs.DataLoader(graph, torch.arange(20), sampler, "cuda", batch_size=7, graph_placement=placement)
        assert [len(batch.input_nodes) for batch in loader] == [7, 7, 6]


def test_loaders_that_take_turns_with_a_sampler(gpu, data):
    """Of other placements and of other threads; clusters are kept, and counts are copied beside each."""
    for sampler in (gs.samplers.ClusterGCNSampler(6), gs.samplers.SAINTSampler(), gs.samplers.LADIESSampler([30, 30])):
        loaders = [
            loader_of(data, sampler, place, num_workers=n) for place, n in (("device", 4), ("pinned", 0), ("host", 2))
        ]
        sums = [torch.stack(epoch(loader)).tolist() for _ in range(2) for loader in loaders]
        assert sums[0] == pytest.approx(sums[1], rel=1e-4)
        assert sums[1] == pytest.approx(sums[2], rel=1e-4)
        assert sums[3] == pytest.approx(sums[5], rel=1e-4)


@pytest.mark.parametrize("placement", ["device", "pinned"])
def test_batches_that_come_again_keep_what_models_ask_for(gpu, data, placement):
    """Their normalised weights and their transpose, which would be sorted anew in each step."""
    for sampler in (gs.samplers.ClusterGCNSampler(6), gs.samplers.GASSampler(6)):
        loader = loader_of(data, sampler, placement, batch_size=1, shuffle=True, num_workers=2)
        first, second = ({batch.sample.adjacencies[0] for batch in loader} for _ in range(2))
        assert first == second


# --- streams


@pytest.mark.parametrize("norm", ["sym", "both"])
@pytest.mark.parametrize("workers", [0, 3])
def test_a_model_on_a_stream_of_its_own(gpu, data, norm, workers):
    with torch.cuda.stream(torch.cuda.Stream()):
        for sampler in (
            gs.samplers.NeighborSampler([4, 4]),
            gs.samplers.GASSampler(6),
            gs.samplers.VRGCNSampler([2, 2]),
        ):
            for placement in ("device", "pinned"):
                loader = loader_of(data, sampler, placement, num_workers=workers, batch_size=3)
                assert len(epoch(loader, norm)) == len(loader)


# --- memory


@pytest.mark.parametrize(
    "sampler",
    [
        lambda: gs.samplers.ClusterGCNSampler(6), lambda: gs.samplers.GASSampler(6), lambda: gs.samplers.LMCSampler(6),
        lambda: gs.samplers.SAINTSampler(), lambda: gs.samplers.FastGCNSampler([9, 9]),
        lambda: gs.samplers.LADIESSampler([9, 9]), lambda: gs.samplers.VRGCNSampler([2, 2]),
    ],
)  # fmt: skip
def test_a_dropped_loader_frees_its_graph(gpu, data, sampler):
    sampler = sampler()
    loader = loader_of(data, sampler)
    copy_there = weakref.ref(loader._graph)
    epoch(loader)
    copied = copy.deepcopy(sampler)  # what it keeps of that graph stays behind
    assert pickle.loads(pickle.dumps(sampler)).__dict__.keys() == copied.__dict__.keys()
    del loader
    gc.collect()
    assert copy_there() is None
    assert len(epoch(loader_of(data, copied))) == len(epoch(loader_of(data, sampler)))
