"""On any graph, a GPU draws what the CPU draws, bit for bit: native and in torch."""

from contextlib import ExitStack
from unittest import mock

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gnnscale.csc import CSC
from gnnscale.ops import layerwise, sample_labor, sample_neighbors, sampling, subgraph, walks
from tests.cuda import pretended

KEYS = st.integers(0, 2**64 - 1)
# Few different ones, so that priorities tie and rows weigh nothing.
WEIGHTS = st.sampled_from([0.0, 0.0, 1.0, 1.0, 0.1, 3.0, 1e-30, 1e16])
FANOUTS = st.integers(-1, 7) | st.just(49)  # n / 49 and n * (1 / 49) differ
CHANCES = st.sampled_from([0.0, 1.0, 1.0, 0.3, 1e-200, 7e5])


@st.composite
def graphs(draw, most_nodes=12):
    """Loops, parallel edges, nodes without edges, rows that are longer than a warp, no edges, no nodes."""
    num_nodes = draw(st.integers(0, most_nodes))
    degree = st.integers(0, 5) | st.integers(0, 70)
    degrees = torch.tensor(draw(st.lists(degree, min_size=num_nodes, max_size=num_nodes)), dtype=torch.int64)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    num_edges = int(degrees.sum())
    indices = torch.randint(max(num_nodes, 1), (num_edges,), generator=generator)
    weights = torch.tensor(draw(st.lists(WEIGHTS, min_size=1, max_size=5)))
    weight = weights[torch.randint(len(weights), (num_edges,), generator=generator)]
    indptr = torch.cat([degrees.new_zeros(1), degrees.cumsum(0)])
    ids = draw(st.sampled_from([torch.int32, torch.int64]))
    return CSC(indptr, indices.to(ids), None, weight, torch.ones(num_nodes), None, torch.arange(num_nodes))


def nodes_of(data, csc, distinct=True):
    if not csc.num_nodes:
        return torch.empty(0, dtype=torch.int64)
    some = st.lists(st.integers(0, csc.num_nodes - 1), unique=distinct, max_size=20)
    return torch.tensor(data.draw(some), dtype=torch.int64)


def numbers(data, length, values):
    """So many numbers."""
    few = torch.tensor(data.draw(st.lists(values, min_size=1, max_size=6)), dtype=torch.float64)
    return few[
        torch.randint(len(few), (length,), generator=torch.Generator().manual_seed(data.draw(st.integers(0, 99))))
    ]


# Each gives what is called as f(csc, where): `where` puts other arrays beside the graph.


def neighbors(data, csc):
    replace, by_weight = data.draw(st.booleans()), data.draw(st.booleans())
    rule = {"key": data.draw(KEYS), "replace": replace}
    seeds, fanouts = nodes_of(data, csc), data.draw(st.lists(FANOUTS, max_size=3))
    return lambda g, where: sample_neighbors(
        g.indptr, g.indices, where(seeds), fanouts, weight=g.weight if by_weight else None, **rule
    )


def labor(data, csc):
    rule = {"key": data.draw(KEYS), "iterations": data.draw(st.integers(-1, 3)), "shared": data.draw(st.booleans())}
    seeds, fanouts = nodes_of(data, csc), data.draw(st.lists(FANOUTS, max_size=2))
    return lambda g, where: sample_labor(g.indptr, g.indices, where(seeds), fanouts, **rule)


def columns(data, csc):
    destinations, by_weight = nodes_of(data, csc, False), data.draw(st.booleans())
    rows, columns = (
        numbers(data, csc.num_nodes, CHANCES) if data.draw(st.booleans()) else None for _ in ("rows", "columns")
    )
    return lambda g, where: layerwise.column_sums(
        g.indptr, g.indices, where(destinations), rows=where(rows), columns=where(columns),
        weight=g.weight if by_weight else None,
    )  # fmt: skip


def succession(data, csc):
    chance = numbers(data, data.draw(st.integers(0, 700)), CHANCES)
    size, key = data.draw(st.integers(0, 40)), data.draw(KEYS)
    return lambda g, where: layerwise.draw_in_succession(where(chance), size, key=key)


def replacement(data, csc):
    sums = layerwise.cumulative_sums(numbers(data, data.draw(st.integers(0, 700)), CHANCES))
    size, key, guided = data.draw(st.integers(0, 40)), data.draw(KEYS), data.draw(st.booleans())
    guide = layerwise.guide_of(sums) if guided else None
    return lambda g, where: layerwise.draw_with_replacement(where(sums), size, key=key, guide=where(guide))


def sums(data, csc):
    values = numbers(data, data.draw(st.integers(0, 900)), CHANCES)
    return lambda g, where: layerwise.cumulative_sums(where(values))


def filled(data, csc):
    values, totals = numbers(data, csc.indices.numel(), CHANCES), numbers(data, csc.num_nodes, CHANCES).float()
    by_weight = data.draw(st.booleans())
    return lambda g, where: [
        layerwise.fill_rows(
            where(csc.indptr),
            where(values),
            where(totals),
            weight=where(csc.weight) if by_weight else None,
        ),
        layerwise.row_sums(where(csc.indptr), where(values)),
    ]


def between(data, csc):
    destinations, sources = nodes_of(data, csc, False), nodes_of(data, csc)
    return lambda g, where: subgraph.edges_between(g.indptr, g.indices, where(destinations), where(sources))


def outwards(data, csc):
    destinations, drawn = nodes_of(data, csc), nodes_of(data, csc)
    return lambda g, where: subgraph.edges_from(g.indptr, g.indices, where(destinations), where(drawn))


def lists(data, csc):
    seeds, ids = nodes_of(data, csc), nodes_of(data, csc, False)
    return lambda g, where: [
        subgraph.append_nodes(where(seeds), where(ids), csc.num_nodes),
        subgraph.distinct_nodes(where(torch.cat([ids, torch.tensor([-1])])), csc.num_nodes),
    ]


def walked(data, csc):
    starts, key, stop = nodes_of(data, csc, False), data.draw(KEYS), data.draw(st.sampled_from([0.0, 0.3, 1.0]))
    length = data.draw(st.integers(0, 6))
    return lambda g, where: [
        walks.random_walks(g, where(starts), length, key=key, stop=stop),
        walks.walk_ends(g, where(starts), key=key, stop=stop or 0.2),
    ]


def visited(data, csc):
    rows, width = data.draw(st.integers(0, 4)), data.draw(st.integers(0, 40))
    seen = torch.randint(-1, 9, (rows, width), generator=torch.Generator().manual_seed(data.draw(st.integers(0, 99))))
    own = torch.arange(rows) if data.draw(st.booleans()) else None
    limit, key = data.draw(st.integers(-1, 6)), data.draw(KEYS)
    return lambda g, where: walks.top_visits(where(seen), limit, key=key, own=where(own))


OPERATIONS = [
    neighbors, labor, columns, succession, replacement, sums, filled, between, outwards, lists, walked, visited
]  # fmt: skip


def parts_of(result):
    if isinstance(result, torch.Tensor | None):
        return [None if result is None else result.cpu()]
    return [part for each in result for part in parts_of(each)]


def as_it_is(values):
    return values


def there(values):
    return None if values is None else values.to(pretended.CUDA)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
def test_a_gpu_draws_what_the_cpu_draws(operation, host_kernels):
    @settings(max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(st.data(), graphs(), st.booleans(), st.booleans())
    def holds(data, csc, weighted, pinned):
        csc = csc if weighted else CSC(**{**vars(csc), "weight": None})
        call = operation(data, csc)
        wanted = parts_of(call(csc, as_it_is))
        with ExitStack() as in_torch:
            for module in (sampling, layerwise, subgraph, walks):
                in_torch.enter_context(mock.patch.object(module, "native", None))
            found = [parts_of(call(csc, as_it_is))]
        with pretended.gpu(host_kernels):
            found.append(parts_of(call(csc.on(pretended.CUDA, pinned=pinned), there)))
        for parts in found:
            assert len(parts) == len(wanted)
            for mine, theirs in zip(parts, wanted, strict=True):
                assert (mine is None) == (theirs is None)
                if mine is not None:
                    assert mine.dtype == theirs.dtype
                    assert torch.equal(mine.nan_to_num(-1), theirs.nan_to_num(-1)), (mine, theirs)

    holds()


def test_walks_where_sums_of_weights_are_coarse(host_kernels):
    """Beside 1e16, points are the sums themselves, or the end of the row."""
    indptr, indices = torch.tensor([0, 1, 4, 5]), torch.tensor([1, 0, 1, 2, 1])
    weight = torch.tensor([1e16, 1.0, 1.0, 2.0, 3.0])
    csc, starts = CSC(indptr, indices, None, weight, torch.ones(3), None, torch.arange(3)), torch.arange(300) % 3
    wanted = walks.random_walks(csc, starts, 5, key=0), walks.walk_ends(csc, starts, key=0, stop=0.2)
    with pretended.gpu(host_kernels):
        there_too, starts = csc.on(pretended.CUDA), starts.to(pretended.CUDA)
        found = walks.random_walks(there_too, starts, 5, key=0), walks.walk_ends(there_too, starts, key=0, stop=0.2)
        assert [torch.equal(mine.cpu(), theirs) for mine, theirs in zip(found, wanted, strict=True)] == [True, True]
