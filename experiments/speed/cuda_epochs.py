"""Epochs on a GPU: of GAS by where its histories are, and of every sampler on large graphs."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import islice, pairwise
from typing import Any

import torch
from graphs import dgl_graph, power_law

import gnnscale as gs

Line = tuple[str, str, str, str]

#: Nodes, edges, features, classes, and the share of training nodes.
GRAPHS = {
    "Reddit": (233_000, 114_000_000, 602, 41, 0.66),
    "ogbn-products": (2_449_000, 124_000_000, 100, 47, 0.08),
}
HIDDEN = 256
STEPS = 20

# The seeds a batch that differ from the sampler's own, and its arguments. Parts are random, as METIS would take longer
# than all of this; so halos are as large as they can get.
SETTINGS: dict[str, tuple[int | None, dict[str, Any]]] = {
    "neighbor": (1024, {}),
    "labor": (1024, {}),
    "pinsage": (1024, {}),
    "ppr": (1024, {}),
    "vrgcn": (1024, {}),
    "mvs": (1024, {}),
    "cluster": (None, {"num_parts": 200, "partition": "random"}),
    "gas": (None, {"num_parts": 200, "partition": "random"}),
    "lmc": (None, {"num_parts": 200, "partition": "random"}),
    "graphfm": (None, {"num_parts": 200, "partition": "random"}),
    **{f"saint-{mode}": (None, {"coverage": 1}) for mode in ("node", "edge", "walk")},
}


def gas_lines(scale: float, repeats: int) -> Iterator[Line]:
    """Epochs of GAS with histories on the device, pinned, pinned and waited for, and in host memory."""
    for num_nodes in (round(100_000 * scale), round(400_000 * scale)):
        data = gs.load("synthetic", num_nodes=num_nodes, num_edges=10 * num_nodes)
        parts = max(8, num_nodes // 2500)
        seconds = {}
        for name, placement, ahead in (
            ("on the device", "device", True),
            ("pinned", "pinned", True),
            ("pinned, one thing after the other", "pinned", False),
            ("in host memory", "host", True),
        ):
            torch.manual_seed(0)
            model = gs.nn.GCN(data.num_features, HIDDEN, data.num_classes, num_layers=3)
            history = gs.HistoryStore(data.num_nodes, placement=placement, device="cuda")
            sampler = gs.samplers.GASSampler(parts, partition="random", refresh=False)
            points = gs.train(
                model, data, sampler, epochs=repeats + 1, batch_size=4, device="cuda", history=history,
                num_workers=4 if ahead else 0, history_ahead=ahead,
            ).points  # fmt: skip
            each = [b.train_seconds - a.train_seconds for a, b in pairwise(points)]
            seconds[name] = statistics.median(each)
        for name, wanted in (
            ("pinned", "at most 1.10"),
            ("pinned, one thing after the other", ""),
            ("in host memory", ""),
        ):
            yield (
                f"epoch of GAS, {num_nodes} nodes, histories {name}",
                f"{seconds[name]:.3f} s, on the device {seconds['on the device']:.3f} s",
                f"{seconds[name] / seconds['on the device']:.2f}",
                wanted,
            )


def memory_line(scale: float) -> Line:
    """The peak of steps of GAS, on graphs of two sizes whose parts have as many nodes and as large a halo each.

    Communities have 1,000 nodes whatever the graph's size, and METIS's parts are unions of them. Evaluation is left
    out: it keeps on the device what there is room for.
    """
    peaks = []
    for num_nodes in (round(100_000 * scale), round(400_000 * scale)):
        data = gs.load(
            "synthetic", num_nodes=num_nodes, num_edges=10 * num_nodes, in_community=0.85, in_class=0.0,
            communities_per_class=max(1, num_nodes // 10_000),
        )  # fmt: skip
        history = gs.HistoryStore(num_nodes, placement="pinned", device="cuda")
        sampler = gs.samplers.GASSampler(max(8, num_nodes // 2500))
        loader = gs.DataLoader(
            data.graph, data.train_ids, sampler, "cuda", batch_size=4, shuffle=True, num_workers=1, history=history
        )
        model = gs.nn.GCN(data.num_features, HIDDEN, data.num_classes, num_layers=3).to(loader.device)
        optimizer = torch.optim.Adam(model.parameters())
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        for batch in islice(forever(loader), STEPS):
            optimizer.zero_grad()
            batch.loss(model(batch, batch.x)).backward()
            optimizer.step()
        peaks.append((torch.cuda.max_memory_allocated() / 1e6, num_nodes))
        del loader, model, optimizer, history, batch
    (small, few), (large, many) = peaks
    what = f"device memory of GAS with pinned histories, {many} nodes against {few}"
    return what, f"{large:.0f} MB, {small:.0f} MB", f"{large / max(small, 1e-9):.2f}", "1: flat"


def sampler_lines(name: str, scale: float) -> Iterator[Line]:
    """Every sampler on a graph of that size, drawn by the CPU and, where it can, by the GPU."""
    num_nodes, num_edges, num_features, num_classes, share = GRAPHS[name]
    num_nodes, num_edges = round(num_nodes * scale), 2 * round(num_edges * scale / 2)
    graph = dgl_graph(*power_law(num_nodes, num_edges, both_ways=True))
    generator = torch.Generator().manual_seed(0)
    graph.ndata["feat"] = torch.randn(num_nodes, num_features, generator=generator)
    graph.ndata["label"] = torch.randint(num_classes, (num_nodes,), generator=generator)
    ids = torch.randperm(num_nodes, generator=generator)[: int(share * num_nodes)]
    for sampler, placement in (
        (sampler, placement)
        for sampler in gs.samplers.SAMPLERS
        for placement in ("host", "device")
        if placement == "host" or of(sampler, num_nodes)[0].draws_on_gpu
    ):
        what = f"{sampler} on a graph of {name}'s size, {'CPU' if placement == 'host' else 'GPU'} draws"
        try:
            yield what, *epoch(lambda: of(sampler, num_nodes), graph, ids, num_classes, placement), ""  # noqa: B023
        except (RuntimeError, MemoryError, ValueError) as error:  # out of memory, say: a result as well
            yield what, str(error).splitlines()[0][:100].replace("|", "/"), "", ""
        gc.collect()
        torch.cuda.empty_cache()


def of(name: str, num_nodes: int) -> tuple[gs.samplers.Sampler, int | None]:
    size, arguments = SETTINGS.get(name, (None, {}))
    arguments = {key: min(value, num_nodes // 8) if key == "num_parts" else value for key, value in arguments.items()}
    return gs.samplers.make_sampler(name, num_layers=2, num_nodes=num_nodes, **arguments), size


def epoch(
    make: Callable[[], tuple[gs.samplers.Sampler, int | None]],
    graph: Any,
    ids: torch.Tensor,
    num_classes: int,
    placement: str,
) -> tuple[str, str]:
    """What a few steps say of an epoch's time, the stages' shares, and the device's memory."""
    sampler, size = make()
    torch.cuda.reset_peak_memory_stats()
    batch_size = min(size or sampler.default_batch_size or len(ids), len(ids))
    loader = gs.DataLoader(
        graph, ids, sampler, "cuda", batch_size=batch_size, shuffle=True, num_workers=8, graph_placement=placement
    )
    torch.manual_seed(0)
    model = gs.nn.SAGE(graph.ndata["feat"].shape[1], HIDDEN, num_classes, num_layers=2).to(loader.device)
    optimizer = torch.optim.Adam([*model.parameters(), *loader.parameters()], lr=0.003)
    num_batches, stages, start, steps = (
        len(loader),
        dict.fromkeys(("sample", "gather", "transfer", "history"), 0.0),
        0.0,
        0,
    )
    for number, batch in enumerate(islice(forever(loader), STEPS + 2)):
        loss = batch.loss(model(batch, batch.x))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if number == 1:  # the first two warm up
            torch.cuda.synchronize()
            start = time.perf_counter()
        elif number > 1:
            steps += 1
            for stage in stages:
                stages[stage] += batch.clock.seconds[stage]
    torch.cuda.synchronize()
    seconds = (time.perf_counter() - start) / steps
    busy = ", ".join(f"{stage} {value / steps / seconds:.0%}" for stage, value in stages.items() if value)
    peak = torch.cuda.max_memory_allocated() / 1e9
    rate = "" if math.isinf(seconds) else f"{1e3 * seconds:.1f} ms"
    return (
        f"{seconds * num_batches:.2f} s an epoch of {num_batches} steps; of a step's time: {busy}; {peak:.1f} GB",
        rate,
    )


def forever(loader: gs.DataLoader) -> Iterator[Any]:
    while True:
        yield from loader
