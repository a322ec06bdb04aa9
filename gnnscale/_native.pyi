"""The compiled operations; native/include/*.h states their contracts."""

from torch import Tensor

def sample_neighbors(
    indptr: Tensor,
    indices: Tensor,
    seeds: Tensor,
    fanouts: list[int],
    key: int,
    replace: bool,
    num_threads: int,
    narrow_limit: int,
) -> tuple[Tensor, list[tuple[Tensor, Tensor, Tensor]]]: ...
def random_walks(
    indptr: Tensor,
    indices: Tensor,
    sums: Tensor | None,
    starts: Tensor,
    key: int,
    stop: float,
    out: Tensor,
    num_threads: int,
) -> None: ...
def walk_ends(
    indptr: Tensor,
    indices: Tensor,
    sums: Tensor | None,
    starts: Tensor,
    key: int,
    stop: float,
    out: Tensor,
    num_threads: int,
) -> None: ...
def gather_rows(source: Tensor, index: Tensor, out: Tensor, num_threads: int) -> None: ...
def spmm(
    indptr: Tensor,
    indices: Tensor,
    weights: Tensor | None,
    order: Tensor | None,
    diagonal: Tensor | None,
    x: Tensor,
    out: Tensor | None,
    rows: Tensor | None,
    dots: Tensor | None,
    num_threads: int,
) -> None: ...
def extremes(
    indptr: Tensor, indices: Tensor, x: Tensor, largest: bool, out: Tensor, ties: Tensor | None, num_threads: int
) -> None: ...
def extremes_backward(
    indptr_t: Tensor, indices_t: Tensor, x: Tensor, extreme: Tensor, share: Tensor, grad: Tensor, num_threads: int
) -> None: ...
def recycled(rows: int, width: int) -> Tensor: ...
def transpose_csr(
    indptr: Tensor, indices: Tensor, indptr_t: Tensor, indices_t: Tensor, permutation: Tensor
) -> None: ...
def dropout(x: Tensor, keep: int, key: int, out: Tensor, num_threads: int) -> None: ...

class RowTable:
    def __init__(
        self,
        rows: Tensor,
        width: int,
        type: int,
        scales: Tensor | None,
        written: Tensor | None,
        versions: Tensor | None,
        journal: Tensor | None,
    ) -> None: ...
    def recover(self) -> int: ...

class Pull:
    def wait(self) -> Tensor: ...
    def done(self) -> bool: ...

class Transfers:
    def __init__(self, num_threads: int) -> None: ...
    def push(self, table: RowTable, ids: Tensor, rows: Tensor, step: int) -> None: ...
    def pull(self, table: RowTable, ids: Tensor, step: int) -> Pull: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...
    def statistics(self) -> tuple[int, int, int, list[int], int, int]: ...
