"""Seconds of training to a fixed accuracy on the demo graph, beside DGL's own loader where it has the sampler.

The graph of ``make demo`` (50,000 nodes, 1 M edges), a GCN of 2 layers and 64 hidden columns, default batch sizes.
After each epoch the model is evaluated exactly, outside the clock; the seconds are those of the epochs until the test
accuracy is reached for the first time. One-off preparation (parts, counted subgraphs) is not counted.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

import measure
import torch
from measure import OURS, Line, Settings
from torch import Tensor, nn
from torch.nn import functional

import gnnscale as gs
from gnnscale._dgl import dgl
from gnnscale.samplers import SAMPLERS, make_sampler
from gnnscale.samplers.partition import partition

WORK = "time to accuracy"
ACCURACY = 0.80
MOST_EPOCHS = {"full": 100}
Batch = tuple[list[dgl.DGLGraph], Tensor, Tensor, Tensor]  # blocks, features, labels, and which outputs train


class ReachedError(Exception):
    """The accuracy is there; training can stop."""


def lines(settings: Settings) -> Iterator[Line]:
    data = gs.load("synthetic", num_nodes=settings.size(50_000, 2000), num_edges=settings.size(1_000_000, 40_000))
    loops = dgl.add_self_loop(data.graph)
    loops.create_formats_()
    peers = dgl_batches(data, loops)
    for name in SAMPLERS:
        yield ours(name, data, settings)
        if name in peers:
            yield theirs(name, data, loops, peers[name], settings)


def ours(name: str, data: gs.Dataset, settings: Settings) -> Line:
    torch.manual_seed(0)
    model = gs.nn.GCN(data.num_features, 64, data.num_classes)
    sampler = make_sampler(name, num_layers=2, num_nodes=data.num_nodes)
    reached, best, spent = math.nan, 0.0, 0.0

    def look(point: gs.training.Point) -> None:
        nonlocal reached, best, spent
        spent, best = point.train_seconds, max(best, point.test)
        if point.test >= ACCURACY:
            reached = point.train_seconds
            raise ReachedError

    epochs = MOST_EPOCHS.get(name, 30)
    try:
        gs.train(model, data, sampler, epochs=epochs, on_point=look)
        note = f"{best:.1%} after {epochs} epochs, {spent:.3g} s"
    except ReachedError:
        note = ""
    except ValueError as error:  # a sampler that does not go with the model
        note = str(error)
    return Line(WORK, name, OURS, reached, threads=settings.threads, note=note)


def theirs(
    name: str, data: gs.Dataset, loops: dgl.DGLGraph, batches: Callable[[], Iterator[Batch]], settings: Settings
) -> Line:
    torch.manual_seed(0)
    model = DGLGCN(data.num_features, 64, data.num_classes)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
    seconds, best = 0.0, 0.0
    for _ in range(MOST_EPOCHS.get(name, 30)):
        model.train()
        start = time.perf_counter()
        for blocks, x, y, chosen in batches():
            loss = functional.cross_entropy(model(blocks, x)[chosen], y[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        seconds += time.perf_counter() - start
        model.eval()
        with torch.no_grad():
            logits = model([loops, loops], loops.ndata["feat"])
        right = logits.argmax(1) == loops.ndata["label"]
        test = right[data.test_ids].float().mean().item()
        best = max(best, test)
        if test >= ACCURACY:
            return Line(WORK, name, "DGL", seconds, threads=settings.threads)
    note = f"{best:.1%} after {MOST_EPOCHS.get(name, 30)} epochs, {seconds:.3g} s"
    return Line(WORK, name, "DGL", math.nan, threads=settings.threads, note=note)


class DGLGCN(nn.Module):
    """The same model of DGL's modules: dropout, convolution, ReLU, dropout, convolution."""

    def __init__(self, in_size: int, hidden: int, out_size: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            dgl.nn.GraphConv(a, b, allow_zero_in_degree=True) for a, b in ((in_size, hidden), (hidden, out_size))
        )

    def forward(self, blocks: list[dgl.DGLGraph], x: Tensor) -> Tensor:
        x = self.convs[0](blocks[0], functional.dropout(x, 0.5, self.training))
        return self.convs[1](blocks[1], functional.dropout(functional.relu(x), 0.5, self.training))


def dgl_batches(data: gs.Dataset, graph: dgl.DGLGraph) -> dict[str, Callable[[], Iterator[Batch]]]:
    """An epoch's batches by DGL's loader, for each sampler that it has."""
    loading = dgl.dataloading
    is_train = torch.zeros(data.num_nodes, dtype=torch.bool)
    is_train[data.train_ids] = True
    graph.ndata["train"] = is_train
    everything = torch.ones(0, dtype=torch.bool)

    def of_blocks(sampler: dgl.dataloading.BlockSampler, batch_size: int) -> Callable[[], Iterator[Batch]]:
        loader = loading.DataLoader(graph, data.train_ids, sampler, batch_size=batch_size, shuffle=True)

        def batches() -> Iterator[Batch]:
            for _, _, blocks in loader:
                y = blocks[-1].dstdata["label"]
                yield blocks, blocks[0].srcdata["feat"], y, everything.new_ones(len(y))

        return batches

    def of_subgraphs(sampler: dgl.dataloading.Sampler, indices: Tensor, **how: object) -> Callable[[], Iterator[Batch]]:
        loader = loading.DataLoader(graph, indices, sampler, **how)

        def batches() -> Iterator[Batch]:
            for part in loader:
                chosen = part.ndata["train"]
                if chosen.any():
                    yield [part, part], part.ndata["feat"], part.ndata["label"], chosen

        return batches

    def of_saint(mode: str, name: str, *budget: int) -> Callable[[], Iterator[Batch]]:
        # As many batches an epoch as ours.
        saint = make_sampler(name, num_layers=2, num_nodes=data.num_nodes)
        saint.prepare(data.graph, data.train_ids, budget[0])
        count = len(saint.batches(data.train_ids, budget[0], True, False, torch.Generator()))
        sampler = loading.SAINTSampler(mode, budget if len(budget) > 1 else budget[0])
        return of_subgraphs(sampler, torch.arange(count), batch_size=1)

    parts = partition(data.graph, 40)
    roots = min(2000, len(data.train_ids))
    return {
        "full": of_blocks(loading.MultiLayerFullNeighborSampler(2), len(data.train_ids)),
        "neighbor": of_blocks(loading.NeighborSampler([10, 10]), 512),
        "labor": of_blocks(loading.LaborSampler([10, 10]), 512),
        "saint-node": of_saint("node", "saint-node", 2000),
        "saint-edge": of_saint("edge", "saint-edge", 2000),
        "saint-walk": of_saint("walk", "saint-walk", roots, 2),
        "cluster": of_subgraphs(Parts(parts), torch.arange(40), batch_size=10, shuffle=True),
    }


class Parts(dgl.dataloading.Sampler):
    """What DGL's ClusterGCNSampler draws, with the parts that gnnscale has."""

    def __init__(self, parts: Tensor) -> None:
        super().__init__()
        self.members = [(parts == part).nonzero().squeeze(1) for part in range(int(parts.max()) + 1)]

    def sample(self, g: dgl.DGLGraph, indices: Tensor) -> dgl.DGLGraph:
        return g.subgraph(torch.cat([self.members[part] for part in indices.tolist()]), relabel_nodes=True)


if __name__ == "__main__":
    measure.main(lines)
