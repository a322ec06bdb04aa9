"""Dropout against torch's, on features as wide as Cora's and Facebook's.

The ways take turns, so that a busy machine slows all of them; medians are shown. Backward is the gradient in the
input, which features do not want and hidden rows do.

    python experiments/speed/dropout.py
"""

import argparse
from collections.abc import Callable

import torch
from measure import Way, medians
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional

from gnnscale import ops


def passing(drop: Callable[[Tensor], Tensor], x: Tensor, upstream: Tensor | None) -> Way:
    """Forward and, if there is a gradient to send back, backward."""

    def work(n: int) -> Tensor:
        out = drop(x)
        if upstream is not None:
            torch.autograd.grad(out, x, upstream)
        return out

    return work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--p", type=float, default=0.5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()

    drops: dict[str, Callable[[Tensor], Tensor]] = {
        "torch": lambda x: functional.dropout(x, args.p),
        "gnnscale": lambda x: ops.dropout(x, args.p),
        "2 * x": lambda x: 2 * x,  # what reading and writing the memory costs
    }
    table = Table(title=f"Milliseconds of dropout, p = {args.p}")
    for column in ("rows × columns", "pass", "threads", "torch", "gnnscale", "torch / gnnscale", "2 * x alone"):
        table.add_column(column, justify="left" if column in ("rows × columns", "pass") else "right")
    for rows, columns in ((2708, 1433), (20_000, 4714)):
        x, upstream = torch.randn(rows, columns), torch.randn(rows, columns)
        for backward in (False, True):
            for threads in args.threads:
                torch.set_num_threads(threads)
                x.requires_grad_(backward)
                ways = {who: passing(drop, x, upstream if backward else None) for who, drop in drops.items()}
                times = medians(ways, args.repeats)
                theirs, ours, memory = (f"{1e3 * seconds:.1f}" for seconds in times.values())
                ratio = f"{times['torch'] / times['gnnscale']:.1f}"
                name = "forward + backward" if backward else "forward"
                table.add_row(f"{rows:,} × {columns:,}", name, str(threads), theirs, ours, ratio, memory)
    Console(width=110).print(table)
    print(f"torch {torch.__version__}, operations: {ops.backend()}")


if __name__ == "__main__":
    main()
