"""Row gather beside torch's index_select, and a copy of as many bytes.

100,000 random rows of 1 KB out of 1 M (a gigabyte, beyond every cache): as torch allocates them, and then
on huge pages, for all ways.
"""

from __future__ import annotations

from collections.abc import Iterator

import measure
import torch
from measure import OURS, Line, Settings, Way

from gnnscale import ops

WORK = "row gather"


def lines(settings: Settings) -> Iterator[Line]:
    torch.manual_seed(0)
    num_rows, count, columns = settings.size(1_000_000), settings.size(100_000), 256
    repeats = settings.repeats(15)
    source = torch.randn(num_rows, columns)
    index = [torch.randint(num_rows, (count,)) for _ in range(repeats + 2)]
    out = torch.empty(count, columns)
    plain, copied = torch.randn(count, columns), torch.empty(count, columns)
    ways: dict[str, Way] = {
        OURS: lambda n: ops.gather_rows(source, index[n], out, num_threads=settings.threads),
        "gnnscale, fresh output": lambda n: ops.gather_rows(source, index[n], num_threads=settings.threads),
        "index_select, fresh output": lambda n: source.index_select(0, index[n]),
        "index_select, out=": lambda n: torch.index_select(source, 0, index[n], out=out),
        "copy of as many bytes": lambda n: copied.copy_(plain),
    }
    rows = f"{count:,} rows of 1 KB"
    for case in (rows, f"{rows}, on huge pages"):
        if case.endswith("huge pages") and not ops.use_huge_pages(source):
            break
        found = measure.compare(WORK, case, ways, repeats, threads=settings.threads)
        yield from measure.with_rates(found, count * columns * 4 / 1e9, "GB/s")


if __name__ == "__main__":
    measure.main(lines)
