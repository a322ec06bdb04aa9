"""The compiled operations; native/include/*.h states their contracts."""

from torch import Tensor

def sample_neighbors(
    indptr: Tensor,
    indices: Tensor,
    weight: Tensor | None,
    seeds: Tensor,
    fanouts: list[int],
    key: int,
    replace: bool,
    num_threads: int,
    narrow_limit: int,
    dense_nodes: int,
) -> tuple[Tensor, list[tuple[Tensor, Tensor, Tensor, Tensor]]]: ...
def sample_labor(
    indptr: Tensor,
    indices: Tensor,
    seeds: Tensor,
    fanouts: list[int],
    key: int,
    iterations: int,
    shared: bool,
    num_threads: int,
    narrow_limit: int,
    dense_nodes: int,
) -> tuple[Tensor, list[tuple[Tensor, Tensor, Tensor, Tensor]]]: ...
def edges_between(
    indptr: Tensor, indices: Tensor, destinations: Tensor, sources: Tensor, num_threads: int, narrow_limit: int
) -> tuple[Tensor, Tensor, Tensor]: ...
def edges_from(
    indptr: Tensor, indices: Tensor, destinations: Tensor, drawn: Tensor, num_threads: int, narrow_limit: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]: ...
def distinct_nodes(ids: Tensor, num_nodes: int) -> Tensor: ...
def append_nodes(seeds: Tensor, ids: Tensor, num_nodes: int) -> tuple[Tensor, Tensor]: ...
def column_sums(
    indptr: Tensor,
    indices: Tensor,
    destinations: Tensor,
    rows: Tensor | None,
    columns: Tensor | None,
    weight: Tensor | None,
) -> tuple[Tensor, Tensor]: ...
def draw_in_succession(chance: Tensor, size: int, key: int) -> Tensor: ...
def draw_with_replacement(
    cumulative: Tensor, size: int, key: int, guide: Tensor | None = None
) -> tuple[Tensor, Tensor]: ...
def fill_rows(indptr: Tensor, values: Tensor, weight: Tensor | None, totals: Tensor) -> Tensor: ...
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
def top_visits(
    visited: Tensor, own: Tensor | None, limit: int, key: int, num_threads: int
) -> tuple[Tensor, Tensor, Tensor]: ...
def gather_rows(source: Tensor, index: Tensor, out: Tensor, num_threads: int) -> None: ...
def make_huge(rows: Tensor) -> bool: ...
def gather_new_rows(source: Tensor, index: Tensor, num_threads: int) -> Tensor: ...
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
def multiply_rows(
    indptr: Tensor,
    indices: Tensor,
    values: Tensor,
    rows: Tensor | None,
    num_cols: int,
    keep: int,
    key: int,
    transposed: bool,
    dense: Tensor,
    out: Tensor,
    num_threads: int,
) -> None: ...
def dropout(x: Tensor, keep: int, key: int, out: Tensor, num_threads: int) -> None: ...
def draw_rmat(
    levels: int,
    table: Tensor,
    relabel: Tensor,
    key: int,
    draws: int,
    most: int,
    directed: bool,
    num_threads: int,
) -> tuple[Tensor, Tensor, int]: ...

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
