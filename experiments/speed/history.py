"""Pull and push of history rows against torch's index_select and index_copy_.

The ways take turns, so that a busy machine slows all of them; medians are shown. Torch works on the same rows in the
same memory. GB/s counts the rows as float32, once; a copy of large tensors in the same rounds says what the memory
gives.

    python experiments/speed/history.py --threads 2
"""

import argparse

import torch
from measure import Way, medians
from peers import machine
from rich.console import Console
from rich.table import Table
from torch import Tensor

from gnnscale.history import HistoryStore

# (columns, rows of the table, rows of a batch)
SIZES = [(16, 4_000_000, 400_000), (256, 500_000, 100_000), (256, 500_000, 10_000), (1024, 150_000, 25_000)]


def show(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Print a table whose first column is text."""
    table = Table(title=title)
    for column in columns:
        table.add_column(column, justify="left" if column == columns[0] else "right")
    for row in rows:
        table.add_row(*row)
    Console(width=120).print(table)


def measure(store: HistoryStore, rows: Tensor, count: int, repeats: int) -> dict[str, float]:
    """Give the median seconds of each way; ``rows`` is what torch works on, of the store's dtype and shape."""
    num_rows, width = rows.shape
    ids, order = torch.randint(num_rows, (count,)), torch.randperm(num_rows)[:count]
    values, out = torch.randn(count, width), torch.empty(count, width, dtype=rows.dtype)
    large = torch.ones(32 << 20)
    copy = torch.empty_like(large)

    def select(n: int) -> Tensor:
        return rows.index_select(0, ids).float()

    def select_out(n: int) -> Tensor:
        return torch.index_select(rows, 0, ids, out=out).float()

    def index_copy(n: int) -> None:
        rows.index_copy_(0, order, values.to(rows.dtype))

    def push(n: int) -> None:
        store.push(0, order, values)
        store.flush()

    ways: dict[str, Way] = {
        "copy": lambda n: copy.copy_(large),
        "index_select": select,
        "index_select(out=)": select_out,
        "pull": lambda n: store.pull(0, ids).wait(),
        "index_copy_": index_copy,
        "push": push,
    }
    seconds = medians(ways, repeats)
    seconds["copy"] *= count * width * 4 / large.nbytes  # of as many bytes
    return seconds


def compare(dtype: str, placement: str, sizes: list[tuple[int, int, int]], repeats: int) -> None:
    lines = []
    for width, num_rows, count in sizes:
        store = HistoryStore(num_rows, [width], dtype=dtype, placement=placement)
        # The very memory of the store, so that neither has better pages. Torch's int8 is a mere cast, without scales.
        rows = store._memory.tables[0].rows
        store.reset()
        seconds = measure(store, rows, count, repeats)
        gigabytes = count * width * 4 / 1e9
        lines.append(
            [
                f"{count // 1000}k of {num_rows // 1000}k, {width * 4} B",
                *(f"{gigabytes / seconds[way]:.1f}" for way in seconds),
                f"{seconds['index_select'] / seconds['pull']:.2f}",
                f"{seconds['index_select(out=)'] / seconds['pull']:.2f}",
                f"{seconds['index_copy_'] / seconds['push']:.2f}",
                f"{seconds['copy'] / seconds['pull']:.0%}",
            ]
        )
        store.close()
    ways = ["copy", "select", "out=", "pull", "icopy", "push"]
    ratios = ["pull/select", "pull/out=", "push/icopy", "pull/copy"]
    show(f"{dtype}, {placement}: GB/s, then ratios of speed", ["rows", *ways, *ratios], lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    compare("float32", "host", SIZES, args.repeats)
    compare("float32", "shared", SIZES, args.repeats)
    for dtype in ("float16", "bfloat16", "int8"):
        compare(dtype, "host", SIZES[1:2], args.repeats)
    print(f"{args.threads} threads; {machine()}")


if __name__ == "__main__":
    main()
