"""Row gathering against torch's index_select, and aggregation against DGL's and torch's.

The ways take turns, so that a busy machine slows all of them; medians are shown.

    python experiments/speed/gather.py --nodes 200000 --edges 4100000
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table

from gnnscale import ops
from gnnscale._dgl import dgl
from gnnscale.ops import reference

Work = Callable[[], object]


def medians(ways: dict[str, Work], repeats: int) -> dict[str, float]:
    """Give each way's median seconds; the first two rounds warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 2):
        for name, work in ways.items():
            start = time.perf_counter()
            work()
            if repeat >= 2:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def show(title: str, seconds: dict[str, float], gigabytes: float) -> None:
    """Print a table whose ratios are to the last row, gnnscale's."""
    table = Table(title=title)
    for column in ("way", "ms", "GB/s", "time / gnnscale's"):
        table.add_column(column, justify="left" if column == "way" else "right")
    ours = list(seconds.values())[-1]
    for name, time_ in seconds.items():
        table.add_row(name, f"{time_ * 1e3:.2f}", f"{gigabytes / time_:.1f}", f"{time_ / ours:.2f}")
    Console(width=110).print(table)


def compare_gather(rows: int, columns: int, count: int, threads: int, repeats: int) -> None:
    source = torch.randn(rows, columns)
    index = torch.randint(rows, (count,))
    out = torch.empty(count, columns)
    gigabytes = count * columns * 4 / 1e9
    title = f"{count:,} of {rows:,} rows of {columns * 4:,} bytes, {threads} threads"
    fresh: dict[str, Work] = {
        "index_select": lambda: source.index_select(0, index),
        "gnnscale": lambda: ops.gather_rows(source, index, num_threads=threads),
    }
    reused: dict[str, Work] = {
        "index_select(out=)": lambda: torch.index_select(source, 0, index, out=out),
        "gnnscale": lambda: ops.gather_rows(source, index, out, num_threads=threads),
    }
    show(f"Gather into a fresh tensor: {title}", medians(fresh, repeats), gigabytes)
    show(f"Gather into a buffer: {title}", medians(reused, repeats), gigabytes)


def compare_aggregation(nodes: int, edges: int, columns: int, repeats: int) -> None:
    src, dst = torch.randint(nodes, (2, edges), dtype=torch.int32)
    graph = dgl.graph((src, dst), num_nodes=nodes).formats(["csr", "csc"])
    graph.create_formats_()
    indptr, indices, edge_ids = graph.adj_tensors("csc")
    weight = torch.rand(edges)  # in the order of the edges' ids, as DGL wants it
    ordered = weight[edge_ids.long()]
    x = torch.randn(nodes, columns)
    with warnings.catch_warnings():  # torch calls its CSR tensors a beta feature
        warnings.simplefilter("ignore")
        matrix = torch.sparse_csr_tensor(indptr, indices, ordered, (nodes, nodes))
    gigabytes = edges * columns * 4 / 1e9
    size = f"{nodes:,} nodes, {edges:,} edges, {columns} columns, {torch.get_num_threads()} threads"

    forward: dict[str, Work] = {
        "DGL copy_u_sum, no weights": lambda: dgl.ops.copy_u_sum(graph, x),
        "DGL u_mul_e_sum": lambda: dgl.ops.u_mul_e_sum(graph, x, weight[:, None]),
        "torch CSR": lambda: matrix @ x,
        "gnnscale in torch alone": lambda: reference.spmm(indptr, indices, ordered, x),
        "gnnscale, no weights": lambda: ops.spmm(indptr, indices, None, x),
        "gnnscale": lambda: ops.spmm(indptr, indices, ordered, x),
    }
    show(f"Aggregation: {size}", medians(forward, repeats), gigabytes)

    wanting = x.clone().requires_grad_()
    transposed = ops.transpose_csr(indptr, indices, nodes)

    def trained(aggregate: Callable[[], torch.Tensor]) -> Work:
        def work() -> None:
            aggregate().sum().backward()
            wanting.grad = None

        return work

    both: dict[str, Work] = {
        "DGL u_mul_e_sum": trained(lambda: dgl.ops.u_mul_e_sum(graph, wanting, weight[:, None])),
        "gnnscale, transposing each time": trained(lambda: ops.spmm(indptr, indices, ordered, wanting)),
        "gnnscale": trained(lambda: ops.spmm(indptr, indices, ordered, wanting, transposed=transposed)),
    }
    show(f"Aggregation and its gradient: {size}", medians(both, repeats), 2 * gigabytes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=200_000)
    parser.add_argument("--edges", type=int, default=4_100_000)
    parser.add_argument("--columns", type=int, default=256)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the matrix gathered from")
    parser.add_argument("--count", type=int, default=100_000, help="rows gathered")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    compare_gather(args.rows, args.columns, args.count, args.threads, args.repeats)
    compare_aggregation(args.nodes, args.edges, args.columns, args.repeats)
    print(f"torch {torch.__version__}, DGL {dgl.__version__}, operations: {ops.backend()}")


if __name__ == "__main__":
    main()
