"""R-MAT graphs in place: the reference, brute force, what is kept of too many, threads, and refusals."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnscale.ops import reference
from gnnscale.ops.rmat import alias_table, draw_rmat, levels_of

QUARTERS = (0.57, 0.19, 0.19, 0.05)


def by_reference(relabel, quarters, *, draws, most, key, directed):
    return reference.draw_rmat(
        levels_of(len(relabel)), alias_table(quarters), relabel, key, draws, most, directed
    )  # fmt: skip


def edges_of(graph):
    indptr, indices, _ = graph
    targets = torch.repeat_interleave(torch.arange(len(indptr) - 1), indptr.diff())
    return set(zip(indices.tolist(), targets.tolist(), strict=True))


@settings(deadline=None)
@given(
    num_nodes=st.integers(1, 700),
    draws=st.integers(0, 5000),
    most=st.integers(1, 3000),
    key=st.integers(0, 2**64 - 1),
    directed=st.booleans(),
    threads=st.integers(1, 3),
)
def test_native_gives_what_the_reference_gives(num_nodes, draws, most, key, directed, threads):
    relabel = torch.randperm(num_nodes).int()
    options = {"draws": draws, "most": most, "key": key, "directed": directed}
    graph = draw_rmat(relabel, QUARTERS, **options, num_threads=threads)
    wanted = by_reference(relabel, QUARTERS, **options)
    assert torch.equal(graph[0], wanted[0])
    assert torch.equal(graph[1], wanted[1])
    assert graph[2] == wanted[2]


@pytest.mark.parametrize("directed", [True, False])
def test_threads_give_the_same_where_each_has_work(directed):
    relabel = torch.randperm(5000).int()
    options = {"draws": 300_000, "most": 150_000, "key": 3, "directed": directed}
    one, three = (draw_rmat(relabel, QUARTERS, **options, num_threads=threads) for threads in (1, 3))
    assert torch.equal(one[0], three[0])
    assert torch.equal(one[1], three[1])


@pytest.mark.parametrize("directed", [True, False])
def test_edges_are_the_cells_drawn(directed):
    """Each cell that was drawn, inside and off the diagonal, is one edge between the nodes it stands for."""
    num_nodes, draws = 50, 400
    relabel = torch.randperm(num_nodes).int()
    row, column = reference.draw_cells(levels_of(num_nodes), alias_table(QUARTERS), 7, 0, draws)
    wanted = set()
    for r, c in zip(row.tolist(), column.tolist(), strict=True):
        if r < num_nodes and c < num_nodes and r != c:
            wanted.add((int(relabel[r]), int(relabel[c])))
            if not directed:
                wanted.add((int(relabel[c]), int(relabel[r])))
    graph = draw_rmat(relabel, QUARTERS, draws=draws, most=draws, key=7, directed=directed)
    assert edges_of(graph) == wanted
    assert graph[2] == len(wanted) // (1 if directed else 2)
    for begin, end in zip(graph[0][:-1], graph[0][1:], strict=True):
        assert bool((graph[1][begin:end].diff() > 0).all())


def test_what_is_left_out_is_any_edge():
    """Half of the edges stay; each is as likely as another, and both directions go together."""
    relabel, draws = torch.arange(40).int(), 300
    every = edges_of(draw_rmat(relabel, QUARTERS, draws=draws, most=draws, key=1))
    pairs = sorted(pair for pair in every if pair[0] < pair[1])
    # Other draws, of the same cells, would need another key: so a directed and an undirected choice are compared.
    kept = edges_of(draw_rmat(relabel, QUARTERS, draws=draws, most=len(pairs) // 2, key=1))
    assert kept < every
    assert all((target, source) in kept for source, target in kept)
    assert len(kept) == 2 * (len(pairs) // 2)
    rank = [number for number, pair in enumerate(pairs) if pair in kept]
    assert abs(sum(rank) / len(rank) / len(pairs) - 0.5) < 0.1


def test_the_alias_table_has_the_products_of_the_quarters():
    table, quarters = alias_table((0.4, 0.3, 0.2, 0.1)), (0.4, 0.3, 0.2, 0.1)
    keep, other = (table >> 8).double() / 2**24, table & 255
    share = keep.index_add(0, other, 1 - keep) / 256
    for cell in (0, 1, 37, 255):
        row, column = cell >> 4, cell & 15
        product = 1.0
        for level in range(4):
            product *= quarters[2 * (row >> level & 1) + (column >> level & 1)]
        assert float(share[cell]) == pytest.approx(product, abs=1e-8)


def test_wrong_arguments_get_a_sentence():
    relabel = torch.arange(10).int()
    options = {"draws": 10, "most": 10, "key": 0}
    for wrong in (torch.zeros(10).int(), torch.arange(1, 11).int(), torch.empty(0).int()):
        with pytest.raises(ValueError, match=r"relabel is no permutation of 0 to -?\d+; pass"):
            draw_rmat(wrong, QUARTERS, **options)
    with pytest.raises(TypeError, match="relabel must be int32; got int64"):
        draw_rmat(relabel.long(), QUARTERS, **options)
    for name, low in (("draws", 0), ("most", 1), ("key", 0)):
        with pytest.raises(ValueError, match=f"{name} is {low - 1}; it has to be at least {low}"):
            draw_rmat(relabel, QUARTERS, **{**options, name: low - 1})
    with pytest.raises(ValueError, match="num_threads is 0; give at least 1"):
        draw_rmat(relabel, QUARTERS, **options, num_threads=0)
