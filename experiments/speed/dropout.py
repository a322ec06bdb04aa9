"""Dropout against torch's, on features as wide as Cora's and Facebook's.

The ways take turns, so that a busy machine slows all of them; medians are shown. Backward is the gradient in the
input, which features do not want and hidden rows do.

    python experiments/speed/dropout.py
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional

from gnnscale import ops

Way = Callable[[Tensor], Tensor]


def medians(ways: list[Way], x: Tensor, upstream: Tensor | None, repeats: int) -> list[float]:
    """Give each way's median seconds; the first two rounds warm up."""
    seconds: list[list[float]] = [[] for _ in ways]
    for repeat in range(repeats + 2):
        for way, times in zip(ways, seconds, strict=True):
            start = time.perf_counter()
            out = way(x)
            if upstream is not None:
                torch.autograd.grad(out, x, upstream)
            if repeat >= 2:
                times.append(time.perf_counter() - start)
            del out
    return [statistics.median(times) for times in seconds]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--p", type=float, default=0.5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()

    ways: list[Way] = [
        lambda x: functional.dropout(x, args.p),
        lambda x: ops.dropout(x, args.p),
        lambda x: 2 * x,  # what reading and writing the memory costs
    ]
    table = Table(title=f"Milliseconds of dropout, p = {args.p}")
    for column in ("rows × columns", "pass", "threads", "torch", "gnnscale", "torch / gnnscale", "2 * x alone"):
        table.add_column(column, justify="left" if column in ("rows × columns", "pass") else "right")
    for rows, columns in ((2708, 1433), (20_000, 4714)):
        x, upstream = torch.randn(rows, columns), torch.randn(rows, columns)
        for backward in (False, True):
            for threads in args.threads:
                torch.set_num_threads(threads)
                times = medians(ways, x.requires_grad_(backward), upstream if backward else None, args.repeats)
                theirs, ours, memory = (f"{1e3 * seconds:.1f}" for seconds in times)
                ratio = f"{times[0] / times[1]:.1f}"
                name = "forward + backward" if backward else "forward"
                table.add_row(f"{rows:,} × {columns:,}", name, str(threads), theirs, ours, ratio, memory)
    Console(width=110).print(table)
    print(f"torch {torch.__version__}, operations: {ops.backend()}")


if __name__ == "__main__":
    main()
