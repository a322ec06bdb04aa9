"""Weighted aggregation, forward and backward, beside DGL's, torch's and torch-sparse's products.

200,000 nodes, 4.1 M edges between nodes drawn uniformly, which is the hardest case for caches, and 256 columns.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import measure
import peers
import torch
from measure import OURS, Line, Settings, Way
from torch import Tensor

from gnnscale import ops
from gnnscale._dgl import dgl

WORK = "weighted aggregation"


def lines(settings: Settings) -> Iterator[Line]:
    torch.manual_seed(0)
    num_nodes, num_edges, columns = settings.size(200_000), settings.size(4_100_000), 256
    graph = dgl.graph(tuple(torch.randint(num_nodes, (2, num_edges), dtype=torch.int32)), num_nodes=num_nodes)
    graph.create_formats_()
    indptr, indices, edge_ids = graph.adj_tensors("csc")
    weight = torch.rand(num_edges)
    ordered = weight[edge_ids.long()]  # ours stand in the order of the rows, DGL's in that of its edge ids
    x = torch.randn(num_nodes, columns)
    transposed = ops.transpose_csr(indptr, indices, num_nodes)
    with warnings.catch_warnings():  # torch calls its CSR tensors a beta feature
        warnings.simplefilter("ignore")
        matrix = torch.sparse_csr_tensor(indptr, indices, ordered, (num_nodes, num_nodes))
    sparse = peers.find("torch_sparse")
    if sparse is not None:
        theirs = sparse.SparseTensor(
            rowptr=indptr.long(),
            col=indices.long(),
            value=ordered,
            sparse_sizes=(num_nodes, num_nodes),
            is_sorted=True,
        )
        theirs.storage.colptr(), theirs.storage.csr2csc()  # kept for the gradient, as ours is

    products: dict[str, Callable[[Tensor], Tensor] | None] = {
        OURS: lambda x: ops.spmm(indptr, indices, ordered, x, transposed=transposed),
        "gnnscale, no weights": lambda x: ops.spmm(indptr, indices, None, x, transposed=transposed),
        "DGL u_mul_e_sum": lambda x: dgl.ops.u_mul_e_sum(graph, x, weight[:, None]),
        "DGL copy_u_sum (no weights)": lambda x: dgl.ops.copy_u_sum(graph, x),
        "torch CSR": lambda x: matrix @ x,
        "torch-sparse": sparse and (lambda x: theirs @ x),
    }
    repeats = settings.repeats(4)
    yield from measure.compare(
        WORK, "forward", {who: product and plain(product, x) for who, product in products.items()}, repeats,
        threads=settings.threads, warm_up=1,
    )  # fmt: skip
    upstream, wanting = torch.randn(num_nodes, columns), x.clone().requires_grad_()
    del products["torch CSR"]  # its gradient multiplies by a dense matrix of ones and more
    yield from measure.compare(
        WORK, "forward and backward",
        {who: product and trained(product, wanting, upstream) for who, product in products.items()}, repeats,
        threads=settings.threads, warm_up=1,
    )  # fmt: skip

    wanted, theirs_wanted = ordered.clone().requires_grad_(), weight.clone().requires_grad_()
    both: dict[str, Way] = {
        OURS: trained(lambda x: ops.spmm(indptr, indices, wanted, x, transposed=transposed), wanting, upstream, wanted),
        "DGL u_mul_e_sum": trained(
            lambda x: dgl.ops.u_mul_e_sum(graph, x, theirs_wanted[:, None]), wanting, upstream, theirs_wanted
        ),
    }
    case = "forward and backward, weights too"
    yield from measure.compare(WORK, case, both, repeats, threads=settings.threads, warm_up=1)


def plain(product: Callable[[Tensor], Tensor], x: Tensor) -> Way:
    return lambda n: product(x)


def trained(product: Callable[[Tensor], Tensor], x: Tensor, upstream: Tensor, *others: Tensor) -> Way:
    return lambda n: torch.autograd.grad(product(x), (x, *others), upstream)


if __name__ == "__main__":
    measure.main(lines)
