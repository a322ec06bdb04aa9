"""The loader's promises: order, determinism, clean failure, no thread left behind, and DGL's interface."""

import itertools
import threading
import time

import numpy as np
import pytest
import torch

import gnnscale as gs
from gnnscale._dgl import dgl
from gnnscale.samplers import SAMPLERS, ClusterGCNSampler, FullSampler, GASSampler, NeighborSampler, Sampler
from tests.conftest import make_graph

ALL = [
    FullSampler(2),
    NeighborSampler([4, 3]),
    ClusterGCNSampler(6, num_layers=2),
    GASSampler(6, num_layers=2),
]


def contents(batch):
    hops = [tuple(array.tolist() for array in layer._adjacency.hop) for layer in batch.layers(2)]
    return batch.input_nodes.tolist(), batch.output_nodes.tolist(), hops, batch.x.tolist(), batch.y.tolist()


def prefetch_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("gnnscale")]


@pytest.mark.parametrize("sampler", ALL, ids=repr)
def test_same_seed_same_batches_whatever_the_workers(odd_graph, sampler):
    def epochs(num_workers, seed=3):
        loader = gs.DataLoader(
            odd_graph,
            torch.arange(50),
            sampler,
            batch_size=4,
            shuffle=True,
            num_workers=num_workers,
            seed=seed,
        )
        return [[contents(batch) for batch in loader] for _ in range(2)]

    inline = epochs(0)
    assert inline == epochs(1) == epochs(4)
    if not isinstance(sampler, FullSampler):
        assert inline[0] != inline[1]
        assert inline != epochs(0, seed=4)


def test_an_epoch_can_be_repeated(odd_graph):
    loader = gs.DataLoader(odd_graph, torch.arange(50), NeighborSampler([4, 3]), batch_size=8, shuffle=True)
    first, second = [[contents(batch) for batch in loader] for _ in range(2)]
    loader.set_epoch(0)
    assert [contents(batch) for batch in loader] == first
    assert [contents(batch) for batch in loader] == second


@pytest.mark.parametrize("sampler", ALL, ids=repr)
@pytest.mark.parametrize("weighted", [False, True])
def test_blocks_are_what_dgl_users_expect(sampler, weighted):
    graph = make_graph(weighted=weighted)
    loader = gs.DataLoader(graph, torch.arange(60), sampler, batch_size=4, shuffle=True)
    for input_nodes, output_nodes, blocks in loader:
        assert all(block.is_block for block in blocks)
        assert torch.equal(blocks[0].srcdata[dgl.NID], input_nodes)
        assert torch.equal(blocks[-1].dstdata[dgl.NID], output_nodes)
        assert torch.equal(blocks[0].srcdata["feat"], graph.ndata["feat"][input_nodes])
        assert torch.equal(blocks[-1].dstdata["label"], graph.ndata["label"][output_nodes])
        for block in blocks:
            sources, destinations = block.srcdata[dgl.NID], block.dstdata[dgl.NID]
            assert torch.equal(sources[: destinations.numel()], destinations)
            assert sources.unique().numel() == sources.numel()
            u, v = block.edges()
            true_u, true_v = graph.find_edges(block.edata[dgl.EID])
            assert torch.equal(sources[u], true_u)
            assert torch.equal(destinations[v], true_v)
            assert block.edata[dgl.EID].unique().numel() == block.num_edges()
            if weighted:
                assert torch.equal(block.edata["weight"], graph.edata["weight"][block.edata[dgl.EID]])
    if isinstance(sampler, (FullSampler, NeighborSampler, ClusterGCNSampler)):
        for before, after in itertools.pairwise(blocks):
            assert torch.equal(before.dstdata[dgl.NID], after.srcdata[dgl.NID])


def test_importance_is_on_the_blocks(odd_graph):
    loader = gs.DataLoader(odd_graph, torch.arange(60), NeighborSampler([4]), batch_size=60)
    (_, nodes, (block,)) = next(iter(loader))
    degrees, drawn = odd_graph.in_degrees(nodes), block.in_degrees()
    assert torch.equal(drawn, degrees.clamp(max=4))
    _, v = block.edges()
    torch.testing.assert_close(block.edata["importance"], (degrees / drawn)[v])


# A DGL training script, with the import as its only difference.
def dgl_script(DataLoader, graph):
    torch.manual_seed(0)

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.ModuleList(
                [
                    dgl.nn.SAGEConv(5, 16, "mean"),
                    dgl.nn.SAGEConv(16, 16, "mean"),
                    dgl.nn.SAGEConv(16, 3, "mean"),
                ]
            )

        def forward(self, blocks, x):
            for index, (layer, block) in enumerate(zip(self.layers, blocks, strict=True)):
                x = layer(block, x)
                if index < 2:
                    x = torch.relu(x)
            return x

    dgl.seed(0)  # DGL draws from a generator of its own, and shuffles with NumPy's
    np.random.seed(0)
    sampler = dgl.dataloading.NeighborSampler([10, 10, 10], prefetch_node_feats=["feat"], prefetch_labels=["label"])
    train_dataloader = DataLoader(
        graph,
        torch.arange(graph.num_nodes()),
        sampler,
        device="cpu",
        batch_size=32,
        shuffle=True,
        drop_last=False,
        num_workers=0,
        use_uva=False,
    )
    model = Net()
    opt = torch.optim.Adam(model.parameters(), lr=0.05, weight_decay=5e-4)
    model.train()
    losses = []
    for _ in range(10):
        total_loss = 0
        for _it, (_input_nodes, _output_nodes, blocks) in enumerate(train_dataloader):
            x = blocks[0].srcdata["feat"]
            y = blocks[-1].dstdata["label"]
            loss = torch.nn.functional.cross_entropy(model(blocks, x), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
            total_loss += loss.item()
        losses.append(total_loss / (_it + 1))
    return losses


def test_a_dgl_script_keeps_working_with_one_import_changed():
    graph = make_graph(num_nodes=150, num_edges=900, odd=False)
    graph.ndata["label"] = (graph.ndata["feat"][:, 0] > 0).long() + (graph.ndata["feat"][:, 1] > 0).long()
    theirs, ours = dgl_script(dgl.dataloading.DataLoader, graph), dgl_script(gs.DataLoader, graph)
    assert theirs[-1] < 0.6 * theirs[0]
    assert ours[-1] < 0.6 * ours[0]
    assert ours[0] == pytest.approx(theirs[0], rel=0.2)


@pytest.mark.parametrize(
    "sampler",
    [
        dgl.dataloading.LaborSampler([4, 3]),
        dgl.dataloading.NeighborSampler([4, 3]),
        dgl.dataloading.MultiLayerFullNeighborSampler(2),
    ],
    ids=lambda sampler: type(sampler).__name__,
)
def test_any_block_sampler_of_dgl_works_and_trains_the_same_model(odd_graph, sampler):
    model = gs.nn.GCN(5, 8, 3)
    for num_workers in (0, 2):
        loader = gs.DataLoader(odd_graph, torch.arange(60), sampler, batch_size=16, num_workers=num_workers)
        outputs = []
        for batch in loader:
            logits = model(batch, batch.x)
            batch.loss(logits).backward()
            outputs.append(batch.output_nodes)
            assert torch.equal(batch.x, odd_graph.ndata["feat"][batch.input_nodes])
        assert torch.equal(torch.cat(outputs), torch.arange(60))
    assert len(prefetch_threads()) == 0


def test_the_full_neighbour_sampler_of_dgl_gives_the_exact_logits(odd_graph):
    model = gs.nn.GCN(5, 8, 3).eval()
    exact = gs.infer(model, odd_graph)
    sampler = dgl.dataloading.MultiLayerFullNeighborSampler(2)
    for batch in gs.DataLoader(odd_graph, torch.arange(60), sampler, batch_size=16):
        torch.testing.assert_close(model(batch, batch.x), exact[batch.output_nodes], rtol=1e-5, atol=1e-5)


class Uniform:
    """A sampler of a user's own: one class, one method."""

    def sample_blocks(self, g, seeds, generator=None):
        output_nodes, blocks = seeds, []
        for _ in range(2):
            edges = g.in_edges(seeds, form="eid")
            kept = edges[torch.rand(edges.numel(), generator=generator) < 0.5]
            frontier = dgl.edge_subgraph(g, kept, relabel_nodes=False)
            block = dgl.to_block(frontier, seeds)
            block.edata[dgl.EID] = frontier.edata[dgl.EID][block.edata[dgl.EID]]
            block.edata["importance"] = torch.full((block.num_edges(),), 2.0)
            seeds = block.srcdata[dgl.NID]
            blocks.insert(0, block)
        return seeds, output_nodes, blocks


class UniformOfTheGlobalGenerators(Uniform):
    def sample_blocks(self, g, seeds):
        np.random.rand()
        return super().sample_blocks(g, seeds)


@pytest.mark.parametrize("sampler", [Uniform(), UniformOfTheGlobalGenerators()], ids=["generator", "global"])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_sampler_of_ones_own_is_deterministic_and_leaves_the_global_generators_alone(sampler, weighted):
    graph = make_graph(weighted=weighted)
    torch.manual_seed(5)
    np.random.seed(5)
    expected = torch.rand(3).tolist(), np.random.rand(3).tolist()

    def epoch(num_workers):
        loader = gs.DataLoader(graph, torch.arange(60), sampler, batch_size=16, num_workers=num_workers)
        return [contents(batch) for batch in loader]

    torch.manual_seed(5)
    np.random.seed(5)
    assert epoch(0) == epoch(3)
    assert (torch.rand(3).tolist(), np.random.rand(3).tolist()) == expected


class Failing(NeighborSampler):
    def draw(self, csc, seeds, key):
        if 40 in seeds:
            raise ZeroDivisionError("from inside the sampler")
        return super().draw(csc, seeds, key)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_failure_reaches_the_caller_as_it_was(odd_graph, num_workers):
    loader = gs.DataLoader(odd_graph, torch.arange(60), Failing([3]), batch_size=4, num_workers=num_workers)
    seen = []
    with pytest.raises(ZeroDivisionError, match="from inside the sampler") as caught:
        for batch in loader:
            seen.append(batch.output_nodes)
    assert torch.equal(torch.cat(seen), torch.arange(40))
    assert any(entry.name == "draw" for entry in caught.traceback)
    assert prefetch_threads() == []


class Slow(NeighborSampler):
    def draw(self, csc, seeds, key):
        time.sleep(0.02)
        return super().draw(csc, seeds, key)


def test_leaving_the_loop_early_leaves_no_thread(odd_graph):
    loader = gs.DataLoader(odd_graph, torch.arange(60), Slow([3]), batch_size=2, num_workers=3)
    for _ in loader:
        assert len(prefetch_threads()) > 0
        break
    assert prefetch_threads() == []


def test_prefetch_threads_work_ahead_and_not_without_bound(odd_graph):
    drawn = []

    class Counting(NeighborSampler):
        def draw(self, csc, seeds, key):
            drawn.append(threading.current_thread().name)
            return super().draw(csc, seeds, key)

    loader = gs.DataLoader(odd_graph, torch.arange(60), Counting([3]), batch_size=2, num_workers=2)
    batches = iter(loader)
    next(batches)
    deadline = time.monotonic() + 10
    while len(drawn) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert 4 <= len(drawn) <= 5
    assert all(name.startswith("gnnscale-prefetch") for name in drawn)
    del batches
    assert prefetch_threads() == []


def test_length_and_last_batch(odd_graph):
    def loader(**arguments):
        return gs.DataLoader(odd_graph, torch.arange(50), NeighborSampler([2]), batch_size=8, **arguments)

    assert [len(loader()), len(list(loader()))] == [7, 7]
    assert [len(loader(drop_last=True)), len(list(loader(drop_last=True)))] == [6, 6]


def test_a_node_without_neighbours_is_computed(odd_graph):
    (batch,) = gs.DataLoader(odd_graph, torch.tensor([59]), NeighborSampler([4, 4]))
    model = gs.nn.SAGE(5, 8, 3)
    assert batch.input_nodes.tolist() == [59]
    assert torch.isfinite(model(batch, batch.x)).all()


def test_dgls_arguments_come_in_dgls_order():
    import inspect

    def names(cls):
        return [name for name in inspect.signature(cls).parameters if name not in ("args", "kwargs")]

    theirs = names(dgl.dataloading.DataLoader)
    assert names(gs.DataLoader)[: len(theirs)] == theirs


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"batch_size": 0}, ValueError, "batch_size=0 has to be an integer of at least 1"),
        ({"num_workers": -1}, ValueError, "num_workers=-1 has to be an integer of at least 0"),
        ({"bach_size": 3}, TypeError, "no argument 'bach_size'; did you mean batch_size?"),
        ({"use_uva": True}, ValueError, "use_uva=True of DGL's loader is not supported"),
        ({"use_ddp": True}, ValueError, "use_ddp=True needs torch.distributed; call"),
        ({"use_ddp": 1}, ValueError, "use_ddp=1 has to be True or False"),
        ({"history": 5}, TypeError, "history is of type int; pass a gnnscale.HistoryStore"),
        ({"device": "gpu"}, ValueError, "device='gpu' is not known; use 'cpu' or 'cuda'"),
        ({"indices": torch.arange(0)}, ValueError, "indices is empty; pass at least one node id"),
        (
            {"indices": torch.tensor([60])},
            ValueError,
            "indices runs from 60 to 60; the graph's nodes are 0 to 59",
        ),
        ({"indices": torch.tensor([1, 1])}, ValueError, "names 1 nodes more than once"),
        ({"indices": torch.ones(60).bool()}, ValueError, "of a mask, pass mask.nonzero"),
        ({"graph_sampler": NeighborSampler}, TypeError, "is the class NeighborSampler; pass an instance"),
        ({"graph_sampler": 3}, TypeError, r"is a int without sample_blocks\(g, seeds\)"),
        ({"graph_sampler": Sampler()}, NotImplementedError, r"Sampler has to implement draw"),
        (
            {"graph": dgl.heterograph({("a", "x", "b"): ([0], [0])})},
            ValueError,
            r"dgl.to_homogeneous\(graph\)",
        ),
    ],
)
def test_bad_arguments_are_one_sentence(odd_graph, changes, error, sentence):
    arguments = {
        "graph": odd_graph,
        "indices": torch.arange(60),
        "graph_sampler": NeighborSampler([2]),
        **changes,
    }
    with pytest.raises(error, match=sentence):
        list(gs.DataLoader(**arguments))


@pytest.mark.parametrize("fanouts", [[], [0], [2.5], "10", None, [10, -2], [True]])
def test_bad_fanouts_are_one_sentence(fanouts):
    with pytest.raises(ValueError, match="has to be a list with one number of neighbours a layer"):
        NeighborSampler(fanouts)


class Broken:
    def __init__(self, change):
        self.change = change

    def sample_blocks(self, g, seeds):
        return self.change(*dgl.dataloading.NeighborSampler([2, 2]).sample_blocks(g, seeds))


def without_ids(i, o, blocks):
    del blocks[0].srcdata[dgl.NID]
    return i, o, blocks


def shuffled(i, o, blocks):
    blocks[1].dstdata[dgl.NID] = blocks[1].dstdata[dgl.NID].flip(0)
    return i, o, blocks


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        (lambda i, o, blocks: blocks, TypeError, "returned list; it has to return"),
        (lambda i, o, blocks: (i, o, [1]), TypeError, "has to return a list of DGL blocks"),
        (lambda i, o, blocks: (i, o, blocks[::-1]), ValueError, "does not continue block 0"),
        (without_ids, ValueError, "block 0 of Broken has no global node ids"),
        (shuffled, ValueError, "in block 1 of Broken the destinations are not the first sources"),
    ],
)
def test_a_sampler_that_breaks_the_contract_is_told_how(odd_graph, change, error, sentence):
    with pytest.raises(error, match=sentence):
        list(gs.DataLoader(odd_graph, torch.arange(60), Broken(change), batch_size=30))


def test_unpacking_without_a_number_of_layers_says_what_to_do(odd_graph):
    (batch,) = gs.DataLoader(odd_graph, torch.arange(60), FullSampler())
    with pytest.raises(ValueError, match=r"FullSampler\(num_layers=2\)"):
        _, _, _ = batch


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_by_name_suit_the_model_and_the_graph(name):
    sampler = gs.samplers.make_sampler(name, num_layers=3, num_nodes=12)
    assert sampler.num_layers in (None, 3)
    assert getattr(sampler, "num_parts", 12) == 12


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        ("neighbour", {}, "sampler 'neighbour' is not known; use one of full, neighbor, labor, mvs, fastgcn"),
        ("neighbor", {"fanouts": [5]}, "draws 1 layers and the model has 3; give one number a layer"),
        ("gas", {"num_parts": 13}, "num_parts=13 is more than the graph's 12 nodes; use at most 12"),
        (
            "gas",
            {"parts": 3},
            r"no argument 'parts', did you mean 'num_parts'\? It takes num_parts, partition, refresh",
        ),
        ("full", {"parts": 3}, "no argument 'parts'; it takes none"),
    ],
)
def test_samplers_by_name_refuse_in_one_sentence(name, arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        gs.samplers.make_sampler(name, num_layers=3, num_nodes=12, **arguments)


def test_a_sampler_may_serve_two_loaders_in_turn(odd_graph):
    """Each finds the sampler prepared for itself, as if it were alone."""
    other = make_graph(num_nodes=40, num_edges=150, seed=1)
    for make in (lambda: ClusterGCNSampler(6), lambda: gs.samplers.SAINTSampler("walk", coverage=3)):
        shared = make()
        first = gs.DataLoader(odd_graph, torch.arange(50), shared, batch_size=4, shuffle=True)
        second = gs.DataLoader(other, torch.arange(20), shared, batch_size=2, shuffle=True)
        for loader, graph, n, size in ((first, odd_graph, 50, 4), (second, other, 20, 2), (first, odd_graph, 50, 4)):
            loader.set_epoch(0)
            alone = gs.DataLoader(graph, torch.arange(n), make(), batch_size=size, shuffle=True)
            assert [contents(batch) for batch in loader] == [contents(batch) for batch in alone]


def test_a_sampler_cannot_serve_two_loaders_at_the_same_time(odd_graph):
    shared = GASSampler(6)
    first, second = (gs.DataLoader(odd_graph, torch.arange(50), shared, batch_size=2) for _ in range(2))
    running = iter(first)
    next(running)
    next(iter(second))
    with pytest.raises(ValueError, match="another DataLoader took over this GASSampler in the middle of an epoch"):
        next(running)


def test_weights_changed_in_place_are_seen():
    graph = make_graph(weighted=True)
    sampler = NeighborSampler([-1])

    def total():
        (batch,) = gs.DataLoader(graph, torch.arange(60), sampler, batch_size=60)
        return batch.layers(1)[0].aggregate(batch.x, "sum")

    before = total()
    graph.edata["weight"].mul_(2)
    torch.testing.assert_close(total(), 2 * before)


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_weights_that_no_degree_can_be_made_of_are_refused(value):
    graph = make_graph(weighted=True)
    graph.edata["weight"][3] = value
    with pytest.raises(ValueError, match="weights of edges have to be finite and at least 0"):
        gs.DataLoader(graph, torch.arange(60), NeighborSampler([2]))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"graph": None}, "graph is of type NoneType; pass a DGLGraph"),
        ({"indices": None}, "indices is of type NoneType; pass a vector of node ids"),
        ({"shuffle": "x"}, "shuffle='x' has to be True or False"),
    ],
)
def test_the_loader_names_what_it_cannot_take(odd_graph, arguments, sentence):
    given = {"graph": odd_graph, "indices": torch.arange(5), "graph_sampler": NeighborSampler([2]), **arguments}
    with pytest.raises((TypeError, ValueError), match=sentence):
        gs.DataLoader(**given)


class Reversed:
    """Draws along out-edges: the destinations are none of the block's."""

    def sample_blocks(self, g, seeds):
        source, target = g.out_edges(seeds)
        block = dgl.to_block(dgl.graph((source, target), num_nodes=g.num_nodes()), seeds)
        return block.srcdata[dgl.NID], seeds, [block]


class WideImportance:
    def sample_blocks(self, g, seeds):
        block = dgl.to_block(dgl.in_subgraph(g, seeds), seeds)
        block.edata["importance"] = torch.ones(block.num_edges(), 2)
        return block.srcdata[dgl.NID], seeds, [block]


class NegativeWeight:
    def sample_blocks(self, g, seeds):
        block = dgl.to_block(dgl.in_subgraph(g, seeds), seeds)
        block.edata["replaced_weight"] = -torch.ones(block.num_edges())
        return block.srcdata[dgl.NID], seeds, [block]


@pytest.mark.parametrize(
    ("sampler", "sentence"),
    [
        (NegativeWeight(), "it has to be one finite number of at least 0 an edge"),
        (Reversed(), "an edge whose destination is none of its destination nodes; draw edges into the destinations"),
        (WideImportance(), "it has to be one finite number an edge"),
    ],
)
def test_blocks_that_would_be_read_out_of_bounds_are_refused(odd_graph, sampler, sentence):
    with pytest.raises(ValueError, match=sentence):
        next(iter(gs.DataLoader(odd_graph, torch.arange(10), sampler, batch_size=10)))
