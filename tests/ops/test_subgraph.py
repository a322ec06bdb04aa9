"""Edges among nodes, drawn layers and lists of nodes: native against reference, and against DGL."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gnnscale import ops
from gnnscale._dgl import dgl
from gnnscale.ops import reference
from gnnscale.ops._backend import native
from gnnscale.ops.subgraph import append_nodes, distinct_nodes, edges_between, edges_from
from tests.ops.graphs import csc_of, edge_lists, random_csc

WIDE = 2**31 - 1

needs_native = pytest.mark.skipif(native is None, reason=ops.backend_reason())


def assert_same(ours: tuple, wanted: tuple) -> None:
    for a, b in zip(ours, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)  # dtypes included


def some_nodes(data: st.DataObject, num_nodes: int, unique: bool = True) -> Tensor:
    nodes = data.draw(st.lists(st.integers(0, num_nodes - 1), unique=unique, max_size=20))
    return torch.tensor(nodes, dtype=torch.int64)


@needs_native
@settings(deadline=None, max_examples=50)
@given(
    graph=edge_lists(),
    data=st.data(),
    dtype=st.sampled_from([torch.int32, torch.int64]),
    narrow_limit=st.sampled_from([WIDE, 5, 0]),
)
def test_native_equals_reference(graph: tuple, data: st.DataObject, dtype: torch.dtype, narrow_limit: int) -> None:
    src, dst, num_nodes = graph
    indptr, indices = csc_of(src, dst, num_nodes)
    csc = (indptr, indices.to(dtype))
    rows, columns = some_nodes(data, num_nodes), some_nodes(data, num_nodes)
    assert_same(
        native.edges_between(*csc, rows, columns, 2, narrow_limit),
        reference.edges_between(*csc, rows, columns, narrow_limit),
    )
    assert_same(
        native.edges_from(*csc, rows, columns, 2, narrow_limit), reference.edges_from(*csc, rows, columns, narrow_limit)
    )
    ids = some_nodes(data, num_nodes, unique=False)
    assert_same(native.append_nodes(rows, ids, num_nodes), reference.append_nodes(rows, ids, num_nodes))
    ids[::3] = -1
    assert_same((native.distinct_nodes(ids, num_nodes),), (reference.distinct_nodes(ids, num_nodes),))


@needs_native
def test_native_equals_reference_on_any_number_of_threads() -> None:
    indptr, indices = random_csc(2000, 400_000)
    rows, columns = torch.randperm(2000)[:1200], torch.randperm(2000)[:900]
    wanted = reference.edges_between(indptr, indices, rows, columns, WIDE)
    assert (indptr[rows + 1] - indptr[rows]).sum() > 4 * 32768
    for threads in (1, 2, 4):
        assert_same(edges_between(indptr, indices, rows, columns, num_threads=threads), wanted)


def test_the_induced_subgraph_is_dgls() -> None:
    indptr, indices = random_csc(300, 3000)
    graph = dgl.graph((indices, torch.arange(300).repeat_interleave(indptr.diff())), num_nodes=300)
    nodes = torch.randperm(300)[:80]
    hop = edges_between(indptr, indices, nodes, nodes)
    wanted = dgl.node_subgraph(graph, nodes)
    rows = torch.arange(80).repeat_interleave(hop.indptr.diff().long())
    ours = zip(hop.indices.tolist(), rows.tolist(), hop.positions.tolist(), strict=True)
    theirs = zip(*(ends.tolist() for ends in wanted.edges()), wanted.edata[dgl.EID].tolist(), strict=True)
    assert sorted(ours) == sorted(theirs)


def test_a_drawn_layer_has_its_destinations_first_and_nobody_without_an_edge() -> None:
    # 3 → 0, 1 → 0, 0 → 1 and 4 → 2
    indptr, indices = csc_of(torch.tensor([3, 1, 0, 4]), torch.tensor([0, 0, 1, 2]), 6)
    layer = edges_from(indptr, indices, torch.tensor([1, 0]), torch.tensor([5, 3, 4, 1]))
    assert layer.nodes.tolist() == [1, 0, 3]
    assert [part.tolist() for part in layer.hop] == [[0, 0, 2], [2, 0], [0, 1]]
    assert (layer.origins.tolist(), layer.places.tolist()) == ([1, 3], [-1, 2, -1, 0])


def test_rows_longer_than_a_vector_and_rows_without_a_member() -> None:
    # Node v has v in-edges, from 0 to v - 1: rows of all lengths around 16 and 64, and of every share of members.
    indptr = torch.cat([torch.zeros(1, dtype=torch.int64), torch.arange(150).cumsum(0)])
    indices = torch.cat([torch.arange(v) for v in range(150)])
    everything = torch.arange(150)
    for sources in (everything, everything[::3].clone(), everything[140:], everything[:0]):
        for dtype in (torch.int32, torch.int64):
            graph = (indptr, indices.to(dtype), everything.flip(0), sources)
            assert_same(edges_between(*graph, num_threads=3), reference.edges_between(*graph, WIDE))


@needs_native
def test_a_source_that_is_no_node_is_refused_wherever_it_stands() -> None:
    indptr, indices = torch.tensor([0, 40, 40]), torch.zeros(40, dtype=torch.int32)
    for place in (0, 15, 16, 39):
        for wrong in (-1, 2, 2**31 - 1, -(2**31)):
            changed = indices.clone()
            changed[place] = wrong
            with pytest.raises(ValueError, match=rf"indices\[{place}\] is {wrong}; node ids of this graph are 0 to 1"):
                edges_between(indptr, changed, torch.tensor([0]), torch.tensor([1]))
    # What is not read may be anything.
    changed = torch.cat([indices, torch.full((9,), -5, dtype=torch.int32)])
    hop = edges_between(torch.tensor([0, 40, 49]), changed, torch.tensor([0]), torch.tensor([0]))
    assert hop.positions.tolist() == list(range(40))


def test_ids_may_outnumber_what_32_bits_hold() -> None:
    # ShaDow numbers (root, node) so. The first two ids are alike in their last 32 bits.
    ids = torch.tensor([2**32 + 5, 5, 2**33 - 1, 2**32 + 5])
    nodes, places = append_nodes(torch.tensor([5, 2**33 - 1]), ids, 2**33)
    assert (nodes.tolist(), places.tolist()) == ([5, 2**33 - 1, 2**32 + 5], [2, 0, 1, 2])


@pytest.fixture(params=["native", "torch"])
def either_backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "torch":
        monkeypatch.setattr("gnnscale.ops.subgraph.native", None)
    elif native is None:
        pytest.skip(ops.backend_reason())


@pytest.mark.usefixtures("either_backend")
def test_wrong_arguments_get_a_sentence() -> None:
    indptr, indices = random_csc(10, 40)
    good, twice = torch.tensor([1, 2]), torch.tensor([3, 4, 4])
    for call, sentence in [
        (lambda: edges_between(indptr, indices, good, twice), "sources holds node 4 more than once; give each once"),
        (lambda: edges_between(indptr, indices, torch.tensor([3, 10]), good), r"destinations\[1\] is 10; node ids of"),
        (lambda: edges_between(indptr, indices, good, torch.tensor([-1])), r"sources\[0\] is -1; node ids of this"),
        (lambda: edges_between(indptr.flip(0).contiguous(), indices, good, good), "indptr is no CSC pointer array"),
        (lambda: edges_between(indptr, torch.full((40,), 10), good, good), r"indices\[\d+\] is 10; node ids of this"),
        (lambda: edges_from(indptr, indices, good, twice), "drawn holds node 4 more than once; give each once"),
        (lambda: edges_from(indptr, indices, twice, torch.arange(10)), "destinations holds node 4 more than once"),
        (lambda: append_nodes(twice, good, 10), "seeds holds node 4 more than once; give each seed once"),
        (lambda: append_nodes(good, torch.tensor([0, 10]), 10), r"ids\[1\] is 10; node ids of this graph are 0 to 9"),
        (lambda: distinct_nodes(torch.tensor([-1, -2]), 10), r"ids\[1\] is -2; node ids of this graph are 0 to 9"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            call()
    with pytest.raises(TypeError, match="destinations must be int64; got int32"):
        edges_between(indptr, indices, good.int(), good)
    # A refused call leaves nothing behind: the same call, put right, is right.
    assert edges_between(indptr, indices, torch.tensor([3, 4]), torch.tensor([3, 4])).indptr.numel() == 3
