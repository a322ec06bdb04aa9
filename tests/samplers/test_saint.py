"""GraphSAINT against brute force: counts, aggregation and loss, and wrong twins that fail the same checks."""

import itertools
import pickle

import pytest
import torch

import gnnscale as gs
from gnnscale._dgl import dgl
from gnnscale.adjacency import Adjacency
from gnnscale.csc import CSC
from gnnscale.loader import DataLoader
from gnnscale.samplers import Sample
from gnnscale.samplers.cluster import inside_degree
from gnnscale.samplers.saint import MODES, SAINTSampler
from gnnscale.testing.graphs import dense_normalised
from tests.conftest import first_layer, make_graph

NUM_NODES, BATCH_SIZE, DRAWS = 14, 3, 400


def small_graph(*, weighted=False):
    """Self-loops, parallel edges and three isolated nodes are in it."""
    return make_graph(NUM_NODES, 40, weighted=weighted)


def draws(graph, sampler, number, indices=None):
    """So many samples of a prepared sampler, over as many epochs as it takes."""
    indices = torch.arange(graph.num_nodes()) if indices is None else indices
    sampler.prepare(graph, indices, BATCH_SIZE)
    generator = torch.Generator().manual_seed(7)
    epochs = (sampler.batches(indices, BATCH_SIZE, True, False, generator) for _ in itertools.count())
    for key, seeds in enumerate(itertools.islice(itertools.chain.from_iterable(epochs), number)):
        yield sampler.draw(CSC.of(graph), seeds, key)


def single_draws(graph, mode, walk_length, roots):
    """What one draw puts into a subgraph: (probability, nodes), by enumeration from the definition."""
    n = graph.num_nodes()
    source, destination = (ends.tolist() for ends in graph.edges())
    degree = [source.count(v) + destination.count(v) for v in range(n)]
    if mode == "node":
        weights = [(max(degree[v], 1), {v}) for v in range(n)]
    elif mode == "edge":
        pairs = zip(source, destination, strict=True)
        weights = [(1 / degree[u] + 1 / degree[v], {u, v}) for u, v in pairs]
    else:
        transition = dense_normalised(graph, "mean")
        walks = [(1.0, (root,)) for root in roots]
        for _ in range(walk_length):
            longer = []
            for probability, walk in walks:
                steps = transition[walk[-1]]
                longer += [(probability * steps[u].item(), (*walk, u)) for u in steps.nonzero()[:, 0].tolist()]
                if not steps.any():
                    longer.append((probability, walk))
            walks = longer
        weights = [(probability, set(walk)) for probability, walk in walks]
    total = sum(weight for weight, _ in weights)
    return [(weight / total, nodes) for weight, nodes in weights]


def inclusion(graph, mode, walk_length=2, roots=range(NUM_NODES)):
    """Probabilities that node v, (N,), and that u and v, (N, N), are in a subgraph of independent draws."""
    single, n = single_draws(graph, mode, walk_length, roots), graph.num_nodes()
    member = torch.zeros(len(single), n, dtype=torch.float64)
    for row, (_, nodes) in enumerate(single):
        member[row, list(nodes)] = 1
    probability = torch.tensor([p for p, _ in single], dtype=torch.float64)
    both_single = member.T @ (probability[:, None] * member)
    one_single = both_single.diagonal()
    either_single = one_single[:, None] + one_single - both_single
    missed = (1 - one_single) ** BATCH_SIZE
    both = 1 - missed[:, None] - missed + (1 - either_single) ** BATCH_SIZE
    return 1 - missed, both


def learned(graph, sampler, indices=None):
    """What the sampler takes for the probabilities of nodes, and of CSC edges given their destinations.

    NaN where never drawn; then the edges' sources and destinations.
    """
    csc = CSC.of(graph)
    node = torch.full((graph.num_nodes(),), torch.nan, dtype=torch.float64)
    edge = torch.full((graph.num_edges(),), torch.nan, dtype=torch.float64)
    num_train = graph.num_nodes() if indices is None else indices.numel()
    for sample in draws(graph, sampler, 150, indices):
        (adjacency,) = sample.adjacencies
        node[sample.nodes] = 1 / (sample.loss_weight.double() * num_train)
        edge[adjacency.hop.positions] = 1 / adjacency.importance.double()
    destination = torch.repeat_interleave(torch.arange(csc.num_nodes), csc.indptr.diff())
    return node, edge, csc.indices.long(), destination


def largest_deviation(graph, sampler, indices=None):
    """The largest standardised deviation of the learned probabilities from the exact ones."""
    roots = range(NUM_NODES) if indices is None else indices.tolist()
    one, both = inclusion(graph, sampler.mode, sampler.walk_length, roots)
    node, edge, source, destination = learned(graph, sampler, indices)
    number = sampler.coverage * graph.num_nodes() / one.sum()
    given = both[source, destination] / one[destination]
    seen, certain = ~edge.isnan(), given > 1 - 1e-9
    assert (edge[seen & certain] == 1).all()
    z_node = (node - one).abs() / (one * (1 - one) / number).sqrt()
    z_edge = (edge - given).abs() / (given * (1 - given) / (number * one[destination])).sqrt()
    assert (~node.isnan()).sum() > 6
    assert seen.sum() > 15
    return max(z_node[~node.isnan()].max().item(), z_edge[seen & ~certain].max().item())


class InvertedEdges(SAINTSampler):
    """PyTorch Geometric's edge probabilities, which are proportional to the degrees."""

    def _odds(self, csc, indices):
        return 1 / super()._odds(csc, indices)


class SameForAll(SAINTSampler):
    def _odds(self, csc, indices):
        return torch.ones_like(super()._odds(csc, indices))


@pytest.mark.parametrize(("mode", "weighted"), [("walk", False), ("walk", True), ("node", False), ("edge", True)])
def test_counts_agree_with_exact_probabilities(mode, weighted):
    assert largest_deviation(small_graph(weighted=weighted), SAINTSampler(mode, coverage=150)) < 5


def test_counts_agree_with_exact_probabilities_where_few_nodes_are_trained():
    assert largest_deviation(small_graph(), SAINTSampler(coverage=150), torch.tensor([9, 2, 4])) < 5


@pytest.mark.parametrize("broken", [InvertedEdges("edge", coverage=150), SameForAll("node", coverage=150)])
def test_other_probabilities_fail_the_same_check(broken):
    assert largest_deviation(small_graph(), broken) > 10


def largest_z(graph, sampler, norm):
    """The largest standardised deviation of a row's estimate, given that its node was drawn, from the exact row."""
    features = graph.ndata["feat"].double()
    exact = dense_normalised(graph, norm) @ features
    count = torch.zeros(graph.num_nodes(), 1)
    total, squares = torch.zeros_like(exact), torch.zeros_like(exact)
    for sample in draws(graph, sampler, DRAWS):
        deviation = first_layer(sample).aggregate(features[sample.nodes].float(), norm).double() - exact[sample.nodes]
        count[sample.nodes] += 1
        total[sample.nodes] += deviation
        squares[sample.nodes] += deviation.square()
    often = count.squeeze(1) > 60
    assert often.sum() > 6
    mean = (total / count)[often]
    error = (((squares / count)[often] - mean.square()).clamp(min=0) / count[often]).sqrt()
    # The importance is as uncertain as the mean of as many draws as were counted for it.
    counted = sampler.coverage * graph.num_nodes() / (count.sum().item() / DRAWS)
    return (mean.abs() / (error * (1 + DRAWS / counted) ** 0.5 + 1e-6)).max().item()


class NoImportance(SAINTSampler):
    def draw(self, csc, seeds, key):
        sample = super().draw(csc, seeds, key)
        (old,) = sample.adjacencies
        return Sample(sample.nodes, [Adjacency(old.hop, old.num_src, csc, sample.nodes)], repeats=True)


class SubgraphDegrees(SAINTSampler):
    def draw(self, csc, seeds, key):
        sample = super().draw(csc, seeds, key)
        (old,) = sample.adjacencies
        degree = inside_degree(csc, old.hop)
        new = Adjacency(old.hop, old.num_src, csc, sample.nodes, importance=old.importance, degree=degree)
        return Sample(sample.nodes, [new], repeats=True)


@pytest.mark.parametrize(
    ("mode", "norm", "weighted"),
    [("walk", "sym", False), ("walk", "mean", True), ("node", "sym", True), ("edge", "sum", False)],
)
def test_rows_are_unbiased_given_their_nodes(mode, norm, weighted):
    sampler = SAINTSampler(mode, coverage=150)
    assert largest_z(small_graph(weighted=weighted), sampler, norm) < 5


@pytest.mark.parametrize("broken", [NoImportance, SubgraphDegrees])
def test_wrong_normalisations_fail_the_same_check(broken):
    assert largest_z(small_graph(), broken("node", coverage=50), "mean") > 10


def loss_z(graph, sampler, indices):
    """The standardised deviation of the mean batch loss from the mean loss over the training nodes."""
    logits, label = torch.randn(graph.num_nodes(), 3), graph.ndata["label"]
    # Nodes of high degree have a high loss, so that it matters how often they are seen.
    logits[torch.arange(graph.num_nodes()), label] -= graph.in_degrees() + graph.out_degrees()
    exact = torch.nn.functional.cross_entropy(logits[indices], label[indices])
    loader = DataLoader(graph, indices, sampler, batch_size=BATCH_SIZE)
    batches = itertools.chain.from_iterable(loader for _ in itertools.count())
    losses = torch.stack([batch.loss(logits[batch.output_nodes]) for batch in itertools.islice(batches, DRAWS)])
    return ((losses.mean() - exact).abs() / (losses.std() / DRAWS**0.5)).item()


class NoLossWeight(SAINTSampler):
    def draw(self, csc, seeds, key):
        sample = super().draw(csc, seeds, key)
        return Sample(sample.nodes, sample.adjacencies, repeats=True)


@pytest.mark.parametrize(
    ("mode", "indices"),
    [("walk", torch.arange(0, NUM_NODES, 2)), ("node", torch.arange(NUM_NODES)), ("edge", torch.arange(0, 11, 2))],
)
def test_the_loss_is_unbiased(mode, indices):
    """The last three nodes are isolated, and never drawn in mode "edge"."""
    assert loss_z(small_graph(), SAINTSampler(mode, coverage=150), indices) < 5


def test_a_loss_without_weights_fails_the_same_check():
    assert loss_z(small_graph(), NoLossWeight("node"), torch.arange(11)) > 10


def test_an_edge_never_counted_stands_for_as_many_as_its_destination_was_drawn():
    """Nodes 0 and 1 of 600 are hardly ever drawn together, and were not among the counted subgraphs."""
    graph = dgl.graph(([0], [1]), num_nodes=600)
    sampler = SAINTSampler("node", coverage=2)
    sampler.prepare(graph, torch.arange(600), 2)
    sample = sampler.draw(CSC.of(graph), torch.tensor([0, 1]), 0)
    drawn = (sample.loss_weight[1] * 600).reciprocal() * 601  # about C_1 + 1, of about 601 subgraphs
    assert 1 <= sample.adjacencies[0].importance.item() <= 10
    assert sample.adjacencies[0].importance.item() == pytest.approx(drawn.item(), rel=0.01)


@pytest.mark.parametrize("mode", MODES)
def test_an_epoch_has_as_many_training_nodes_as_there_are(mode):
    graph, train = make_graph(), torch.arange(0, 50, 2)
    loader = DataLoader(graph, train, SAINTSampler(mode), batch_size=5)
    seen = sum(torch.isin(batch.output_nodes, train).sum().item() for _ in range(50) for batch in loader) / 50
    assert 0.9 * train.numel() < seen < 1.1 * train.numel() * len(loader) / (len(loader) - 1)


def test_walks_start_at_training_nodes():
    graph, train = make_graph(), torch.tensor([3, 7, 20])
    for batch in DataLoader(graph, train, SAINTSampler(walk_length=1), batch_size=2):
        reach = set(train.tolist()) | set(graph.in_edges(train)[0].tolist())
        assert set(batch.output_nodes.tolist()) <= reach
        assert batch.targets is None or batch.targets.numel()


@pytest.mark.parametrize("mode", MODES)
def test_a_batch_is_a_function_of_seed_epoch_and_number(mode):
    graph, train = make_graph(), torch.arange(0, 50, 2)

    def epochs(**arguments):
        loader = DataLoader(graph, train, SAINTSampler(mode, coverage=5), batch_size=5, **arguments)
        return [
            (batch.output_nodes.tolist(), batch.sample.loss_weight.tolist(), adjacency.importance.tolist())
            for _ in range(2)
            for batch in loader
            for adjacency in batch.sample.adjacencies
        ]

    first = epochs()
    assert first == epochs() == epochs(num_workers=2) != epochs(seed=1)
    half = len(first) // 2
    assert first[:half] != first[half:]


def test_counts_are_made_again_for_another_batch_size_or_training_set():
    graph, sampler = make_graph(), SAINTSampler(coverage=5)
    weights = []
    for train, size in ((torch.arange(20), 2), (torch.arange(20), 2), (torch.arange(20), 9), (torch.arange(9), 9)):
        sampler.prepare(graph, train, size)
        weights.append(sampler.draw(CSC.of(graph), torch.tensor([3]), 0).loss_weight)
    assert weights[0] is not weights[1]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[1], weights[2])
    assert not torch.equal(weights[2], weights[3])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("model", [gs.nn.GCN, gs.nn.SAGE])
def test_models_learn_from_it(mode, model):
    data = gs.load("synthetic", num_nodes=300, num_edges=2000, num_classes=3, signal=0.5, train_fraction=0.4)
    network = model(data.num_features, 8, data.num_classes)
    result = gs.train(network, data, SAINTSampler(mode, coverage=10), epochs=6, batch_size=40, lr=0.05)
    assert result.best.test > 0.8


def test_a_batch_without_a_training_node_has_no_loss_and_no_gradient():
    graph = make_graph()
    sampler = SAINTSampler("node", coverage=5)
    model = gs.nn.GCN(5, 4, 3)
    batches = list(DataLoader(graph, torch.tensor([0]), sampler, batch_size=2))
    empty = next(batch for batch in batches if batch.targets is not None and not batch.targets.numel())
    loss = empty.loss(model(empty, empty.x))
    loss.backward()
    assert loss.item() == 0
    assert all((parameter.grad == 0).all() for parameter in model.parameters())


@pytest.mark.parametrize("mode", ["walk", "node"])
def test_graphs_without_edges(mode):
    graph = dgl.graph(([], []), num_nodes=3)
    (*_, sample) = draws(graph, SAINTSampler(mode), 5)
    assert sample.adjacencies[0].hop.indices.numel() == 0
    assert first_layer(sample).aggregate(torch.ones(sample.nodes.numel(), 1), "sym").eq(1).all()


def test_a_sampler_without_batches_says_why():
    with pytest.raises(ValueError, match="mode='edge' draws edges, and the graph has none; use mode='node'"):
        SAINTSampler("edge").prepare(dgl.graph(([], []), num_nodes=3), torch.arange(3), 2)
    with pytest.raises(ValueError, match=r"none of \d+ subgraphs had a training node; raise batch_size"):
        SAINTSampler("edge").prepare(make_graph(), torch.tensor([59]), 2)


def test_the_interface_of_dgl():
    graph = make_graph()
    sampler = SAINTSampler("edge", num_layers=2, coverage=5)
    inputs, outputs, blocks = sampler.sample_blocks(graph, torch.arange(6))
    assert len(blocks) == 2
    assert torch.equal(inputs, outputs)
    assert "importance" in blocks[0].edata
    assert "loss_weight" in blocks[1].dstdata
    assert not torch.equal(outputs, sampler.sample_blocks(graph, torch.arange(6))[1])
    with pytest.raises(ValueError, match="exclude_eids is not supported by SAINTSampler"):
        sampler.sample_blocks(graph, torch.arange(6), torch.tensor([0]))


def test_a_prepared_sampler_can_be_pickled():
    graph, sampler = make_graph(), SAINTSampler(coverage=5)
    sampler.prepare(graph, torch.arange(60), 4)
    copy = pickle.loads(pickle.dumps(sampler))
    seeds = torch.tensor([1, 1, 5])
    samples = [each.draw(CSC.of(graph), seeds, key=3) for each in (sampler, copy)]
    assert torch.equal(samples[0].nodes, samples[1].nodes)
    assert torch.equal(samples[0].loss_weight, samples[1].loss_weight)


def test_its_name_says_how_it_draws():
    assert repr(SAINTSampler()) == "SAINTSampler(mode='walk', walk_length=2)"
    assert repr(SAINTSampler("node", coverage=10)) == "SAINTSampler(mode='node', coverage=10)"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"mode": "frontier"}, "mode='frontier' is not known; use one of 'walk', 'node', 'edge'"),
        ({"walk_length": 0}, "walk_length=0 has to be a positive integer"),
        ({"coverage": 0}, "coverage=0 has to be a positive number"),
        ({"coverage": float("inf")}, "coverage=inf has to be a positive number"),
        ({"coverage": "50"}, "coverage='50' has to be a positive number"),
        ({"num_layers": 0}, "num_layers=0 has to be a positive integer, or left out"),
    ],
)
def test_bad_arguments_are_one_sentence(arguments, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}"):
        SAINTSampler(**arguments)
