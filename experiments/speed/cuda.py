"""What the CUDA path is held to, on one GPU: a table, each line a ratio to what it is compared with in the same run.

The ways of a line take turns, so that what disturbs the machine disturbs all of them; medians are shown. It needs torch
and the CUDA kernels (`gnnscale doctor`); samples and epochs need DGL as well, and are left out without it.

    python experiments/speed/cuda.py
    python experiments/speed/cuda.py --only pulls --only products
    python experiments/speed/cuda.py --nodes 200000 --edges 4000000 --scale 0.05 --repeats 5   # a small machine
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise

import torch
from torch import Tensor

from gnnscale.history import FeatureStore
from gnnscale.history.transfers import TorchTransfers
from gnnscale.ops import cuda_reason, spmm, transpose_csr

Line = tuple[str, str, str, str]  # what, measured, ratio, wanted
Way = Callable[[int], object]


def medians(ways: Mapping[str, Way], repeats: int) -> dict[str, float]:
    """Give the median seconds of each way, the device's work included; a first round is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name, way in ways.items():
            torch.cuda.synchronize()
            start = time.perf_counter()
            way(repeat)
            torch.cuda.synchronize()
            if repeat:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def often(way: Callable[[], object], times: int = 10) -> Way:
    """Do it several times a round, so that starting it does not count where it is done in the background."""
    return lambda n: [way() for _ in range(times)]


def power_law(num_nodes: int, num_edges: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Draw a graph's CSC arrays: a few nodes have most of the edges at either end."""
    generator = torch.Generator().manual_seed(seed)
    source, destination = (num_nodes * torch.rand(2, num_edges, generator=generator) ** 3).long()
    counts = torch.bincount(destination, minlength=num_nodes)
    order = destination.argsort()
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)]), source[order].int()


def pulls(repeats: int) -> Iterator[Line]:
    """Rows of 1 KB, by random ids: over the bus beside a plain copy, and on the device beside one there."""
    num_rows, count, width = 1_000_000, 200_000, 256
    rows = torch.randn(num_rows, width)
    pinned, buffer = torch.empty(count, width, pin_memory=True), torch.empty(count, width, device="cuda")
    here = torch.empty(count, width, device="cuda")
    on_the_host = torch.randint(num_rows, (count,))
    ids = on_the_host.cuda()
    zero_copy = TorchTransfers("cuda", pinned=True)
    staged = TorchTransfers("cuda", num_threads=os.cpu_count() or 1)
    for dtype in ("float32", "bfloat16", "int8"):
        stores = {
            place: FeatureStore(rows, dtype=dtype, placement=place, device="cuda") for place in ("pinned", "device")
        }
        table, near = stores["pinned"]._table, stores["device"]._table
        share = table.rows.element_size() / 4
        seconds = medians(
            {
                "bus": often(lambda: buffer.copy_(pinned, non_blocking=True)),
                "memory": often(lambda: here.copy_(buffer)),
                "zero-copy": often(lambda t=table: zero_copy.pull(t, ids, 0).wait()),
                "staged": often(lambda t=table: staged.pull(t, on_the_host, 0).wait()),
                "device": often(lambda t=near: zero_copy.pull(t, ids, 0).wait()),
                "index_select": often(lambda t=near: t.rows.index_select(0, ids).float()),
            },
            repeats,
        )
        moved = 10 * count * width * 4 / 1e9
        for name in ("zero-copy", "staged"):
            gigabytes = share * moved / seconds[name]
            yield (
                f"pull from pinned memory, {name}, {dtype}",
                f"{gigabytes:.1f} GB/s of {moved / seconds['bus']:.1f}",
                f"{share * seconds['bus'] / seconds[name]:.0%}",
                "85 %" if name == "zero-copy" else "",
            )
        # A copy reads and writes float32; a gather reads stored rows and writes float32.
        traffic = (1 + share) / 2
        yield (
            f"gather on the device, {dtype}",
            f"{2 * traffic * moved / seconds['device']:.0f} GB/s of {2 * moved / seconds['memory']:.0f}",
            f"{traffic * seconds['memory'] / seconds['device']:.0%}",
            "80 %" if dtype == "float32" else "",
        )
        yield (
            f"gather on the device, {dtype}",
            "against index_select",
            f"{seconds['index_select'] / seconds['device']:.2f} ×",
            "",
        )


def products(num_nodes: int, num_edges: int, repeats: int) -> Iterator[Line]:
    """The weighted product of a power-law graph against torch.sparse, forward and with its gradients."""
    indptr, indices = (part.cuda() for part in power_law(num_nodes, num_edges))
    weight = torch.rand(num_edges, device="cuda")
    transposed = transpose_csr(indptr, indices, num_nodes)
    matrix = torch.sparse_csr_tensor(indptr, indices.long(), weight, (num_nodes, num_nodes))
    turned = torch.sparse_csr_tensor(transposed[0], transposed[1].long(), weight[transposed[2]], (num_nodes, num_nodes))
    for width in (64, 128, 256):
        x = torch.randn(num_nodes, width, device="cuda", requires_grad=True)
        half = x.detach().bfloat16()
        grad = torch.randn(num_nodes, width, device="cuda")

        def both(n: int, x: Tensor = x, grad: Tensor = grad) -> None:
            out = spmm(indptr, indices, weight, x, transposed=transposed)
            torch.autograd.grad(out, x, grad)

        seconds = medians(
            {
                "torch": lambda n, x=x: matrix @ x.detach(),
                "ours": lambda n, x=x: spmm(indptr, indices, weight, x.detach()),
                "bfloat16": lambda n, x=half: spmm(indptr, indices, weight, x),
                "torch, both": lambda n, x=x, g=grad: (matrix @ x.detach(), turned @ g),
                "ours, both": both,
            },
            repeats,
        )
        for name, beside, wanted in (
            ("ours", "torch", "1.5 ×"),
            ("bfloat16", "torch", ""),
            ("ours, both", "torch, both", "1.5 ×"),
        ):
            what = {
                "ours": "weighted product",
                "bfloat16": "the same in bfloat16",
                "ours, both": "the same with its gradient",
            }
            moved = num_edges * width * {"ours": 4, "bfloat16": 2, "ours, both": 8}[name] / 1e9
            rate = moved / seconds[name]
            measured = (
                f"{1e3 * seconds[name]:.2f} ms, torch.sparse {1e3 * seconds[beside]:.2f} ({rate:.0f} GB/s of rows)"
            )
            yield f"{what[name]}, {width} columns", measured, f"{seconds[beside] / seconds[name]:.2f} ×", wanted


def samples(num_nodes: int, num_edges: int, repeats: int) -> Iterator[Line]:
    """Batches drawn by the GPU against the CPU's threads, and against DGL's samplers on the CPU where it has them."""
    import cuda_samples

    yield from cuda_samples.lines(power_law(num_nodes, num_edges), repeats, medians)


def epochs(scale: float, repeats: int) -> Iterator[Line]:
    """Epochs of GAS by where histories are, and of every sampler on graphs of Reddit's and of ogbn-products' size."""
    import cuda_epochs

    yield from cuda_epochs.gas_lines(scale, repeats)
    yield cuda_epochs.memory_line(scale)
    for name in ("Reddit", "ogbn-products"):
        yield from cuda_epochs.sampler_lines(name, scale)


SECTIONS = ("pulls", "products", "samples", "epochs", "graphs")


def graphs(repeats: int) -> Iterator[Line]:
    """Steps of full batch on a small graph, as CUDA graphs and kernel by kernel, and whether they learn alike."""
    import gnnscale as gs

    data = gs.load("synthetic", num_nodes=3000, num_edges=15_000)
    for name in ("gcn", "gat"):
        seconds, losses = {}, {}
        for cuda_graph in (False, True):
            torch.manual_seed(0)
            model = gs.nn.MODELS[name](data.num_features, 64, data.num_classes, dropout=0.0)
            points = gs.train(
                model, data, gs.samplers.FullSampler(), epochs=20 * repeats, device="cuda", cuda_graph=cuda_graph
            ).points
            each = [b.train_seconds - a.train_seconds for a, b in pairwise(points)]
            seconds[cuda_graph] = statistics.median(each[len(each) // 2 :])
            losses[cuda_graph] = points[-1].loss
        yield (
            f"step of full batch, {name}, 3000 nodes, as a CUDA graph against without",
            f"{1e3 * seconds[True]:.2f} ms, {1e3 * seconds[False]:.2f} ms; "
            f"last loss {losses[True]:.5f}, {losses[False]:.5f}",
            f"{seconds[False] / seconds[True]:.2f} ×",
            "",
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=SECTIONS, help="a part of the table; may be repeated")
    parser.add_argument("--nodes", type=int, default=1_000_000)
    parser.add_argument("--edges", type=int, default=40_000_000)
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--scale", type=float, default=1.0, help="of the graphs that epochs are run on")
    arguments = parser.parse_args()
    if reason := cuda_reason():
        sys.exit(f"This table needs a GPU and gnnscale's kernels for it. {reason}")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, CUDA {torch.version.cuda}")
    print("| what | measured | ratio | wanted |\n|---|---|--:|--:|")
    size = arguments.nodes, arguments.edges, arguments.repeats
    makers: dict[str, Callable[[], Iterator[Line]]] = {
        "pulls": lambda: pulls(arguments.repeats),
        "products": lambda: products(*size),
        "samples": lambda: samples(*size),
        "epochs": lambda: epochs(arguments.scale, 3),
        "graphs": lambda: graphs(3),
    }
    for section in arguments.only or SECTIONS:
        try:
            for line in makers[section]():
                print("| " + " | ".join(line) + " |", flush=True)
        except ImportError as error:
            print(f"| {section} | left out: there is no {error.name} | | |", flush=True)


if __name__ == "__main__":
    main()
