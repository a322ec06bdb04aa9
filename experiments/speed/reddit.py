"""Epochs of GraphSAGE on a graph of Reddit's size, beside DGL's loader and modules.

233,000 nodes, 114 M edges with a power law of degrees, both directions of each, 602 random features, 41 classes, 66 %
training nodes; two layers, 256 hidden columns, no dropout, fan-outs [10, 10], 1,024 seeds a batch, Adam. The two take
turns with a few batches each; an epoch is the median batch times the number of batches.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from itertools import islice

import measure
import torch
from graphs import dgl_graph, power_law
from measure import OURS, Line, Settings
from torch import Tensor, nn
from torch.nn import functional

import gnnscale as gs
from gnnscale._dgl import dgl

WORK = "epoch on a graph of Reddit's size"
CASE = "GraphSAGE [10, 10], 2 × 256"


class DGLSage(nn.Module):
    """What DGL's examples train."""

    def __init__(self, in_size: int, hidden: int, out_size: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            [dgl.nn.SAGEConv(in_size, hidden, "mean"), dgl.nn.SAGEConv(hidden, out_size, "mean")]
        )

    def forward(self, blocks: list[dgl.DGLGraph], x: Tensor) -> Tensor:
        return self.convs[1](blocks[1], functional.relu(self.convs[0](blocks[0], x)))


def lines(settings: Settings) -> Iterator[Line]:
    num_nodes, num_features, num_classes = settings.size(233_000), 602, 41
    graph = dgl_graph(*power_law(num_nodes, settings.size(114_000_000), both_ways=True))
    torch.manual_seed(0)
    graph.ndata["feat"] = torch.randn(num_nodes, num_features)
    graph.ndata["label"] = torch.randint(num_classes, (num_nodes,))
    train_ids = torch.randperm(num_nodes)[: int(0.66 * num_nodes)]
    batch_size = min(1024, num_nodes // 4)
    num_batches = -(-len(train_ids) // batch_size)

    makers: dict[str, Callable[[], Trainer]] = {
        OURS: lambda: Ours(graph, train_ids, batch_size, num_classes, workers=0),
        "gnnscale, 1 prefetch thread": lambda: Ours(graph, train_ids, batch_size, num_classes, workers=1),
        "DGL": lambda: DGLs(graph, train_ids, batch_size, num_classes),
    }
    trainers = {who: make() for who, make in makers.items()}
    rounds, length = settings.repeats(4), 6
    steps: dict[str, list[tuple[float, float]]] = {who: [] for who in trainers}
    for number in range(rounds):
        for who, trainer in trainers.items():
            steps[who].append(trainer.steps(number, length))
    for who, times in steps.items():
        seconds, sampling = (statistics.median(part) for part in zip(*times, strict=True))
        note = f"sampling {sampling / seconds:.1%} of it" if sampling else ""
        yield Line(WORK, CASE, who, seconds * num_batches, repeats=rounds * length, threads=settings.threads, note=note)
        if sampling:
            yield Line(WORK, "share of sampling", who, 100 * sampling / seconds, "%", rounds * length, settings.threads)


class Trainer:
    """Takes steps, and says how long one took, and its sampling (0 where it is not known)."""

    model: nn.Module

    def batches(self, number: int) -> Iterator[tuple[Callable[[], Tensor], Callable[[], float]]]:
        raise NotImplementedError

    def steps(self, number: int, length: int) -> tuple[float, float]:
        optimizer = torch.optim.Adam(self.model.parameters(), lr=0.003)
        batches = self.batches(number)
        sampling, start = 0.0, 0.0
        for index, (loss, sampled) in enumerate(islice(batches, length + 1)):
            value = loss()
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            if index == 0:  # of the first, which warms up, nothing counts
                start = time.perf_counter()
            else:
                sampling += sampled()
        seconds = (time.perf_counter() - start) / length
        batches.close()  # type: ignore[attr-defined]
        return seconds, sampling / length


class Ours(Trainer):
    def __init__(self, graph: dgl.DGLGraph, ids: Tensor, batch_size: int, num_classes: int, workers: int) -> None:
        sampler = gs.samplers.NeighborSampler([10, 10])
        self.loader = gs.DataLoader(graph, ids, sampler, batch_size=batch_size, shuffle=True, num_workers=workers)
        self.model = gs.nn.SAGE(graph.ndata["feat"].shape[1], 256, num_classes, dropout=0.0)

    def batches(self, number: int) -> Iterator[tuple[Callable[[], Tensor], Callable[[], float]]]:
        self.loader.set_epoch(number)
        batches = iter(self.loader)
        for batch in batches:
            yield lambda: batch.loss(self.model(batch, batch.x)), lambda: batch.clock.seconds["sample"]  # noqa: B023
        batches.close()  # type: ignore[attr-defined]


class DGLs(Trainer):
    def __init__(self, graph: dgl.DGLGraph, ids: Tensor, batch_size: int, num_classes: int) -> None:
        self.clock = Timed(dgl.dataloading.NeighborSampler([10, 10]))
        self.loader = dgl.dataloading.DataLoader(
            graph, ids, self.clock, batch_size=batch_size, shuffle=True, num_workers=0
        )
        self.model = DGLSage(graph.ndata["feat"].shape[1], 256, num_classes)

    def batches(self, number: int) -> Iterator[tuple[Callable[[], Tensor], Callable[[], float]]]:
        torch.manual_seed(number)
        for _, _, blocks in self.loader:
            yield (
                lambda: functional.cross_entropy(
                    self.model(blocks, blocks[0].srcdata["feat"]),  # noqa: B023
                    blocks[-1].dstdata["label"],  # noqa: B023
                ),
                lambda: self.clock.seconds,
            )


class Timed(dgl.dataloading.BlockSampler):
    """DGL's sampler, with the seconds that its last batch took."""

    def __init__(self, sampler: dgl.dataloading.BlockSampler) -> None:
        super().__init__()
        self.sampler, self.seconds = sampler, 0.0

    def sample_blocks(
        self, g: dgl.DGLGraph, seed_nodes: Tensor, exclude_eids: Tensor | None = None
    ) -> tuple[Tensor, Tensor, list[dgl.DGLGraph]]:
        start = time.perf_counter()
        result = self.sampler.sample_blocks(g, seed_nodes, exclude_eids)
        self.seconds = time.perf_counter() - start
        return result


if __name__ == "__main__":
    measure.main(lines)
