"""Random graphs for the tests of the operations."""

import torch
from hypothesis import strategies as st
from torch import Tensor


def csc_of(src: Tensor, dst: Tensor, num_nodes: int) -> tuple[Tensor, Tensor]:
    """Give the CSC arrays of an edge list, edges of one destination in the list's order."""
    order = dst.argsort(stable=True)
    counts = torch.bincount(dst, minlength=num_nodes)
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)]), src[order].contiguous()


def random_csc(num_nodes: int, num_edges: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Draw a graph whose first nodes have most of the edges."""
    generator = torch.Generator().manual_seed(seed)
    src, dst = (num_nodes * torch.rand(2, num_edges, generator=generator) ** 2).long()
    return csc_of(src, dst, num_nodes)


@st.composite
def edge_lists(draw: st.DrawFn) -> tuple[Tensor, Tensor, int]:
    """Small graphs with parallel edges, self-loops and isolated nodes: (src, dst, number of nodes)."""
    num_nodes = draw(st.integers(1, 12))
    node = st.integers(0, num_nodes - 1)
    edges = draw(st.lists(st.tuples(node, node), max_size=60))
    pairs = torch.tensor(edges, dtype=torch.int64).reshape(-1, 2)
    return pairs[:, 0].contiguous(), pairs[:, 1].contiguous(), num_nodes
