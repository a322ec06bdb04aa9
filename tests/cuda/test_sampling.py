"""Neighbour sampling by the kernels: the CPU's sample, bit for bit."""

import pytest
import torch
from torch import Tensor

from gnnscale.ops import reference, sample_labor, sample_neighbors
from gnnscale.ops.layerwise import column_sums, draw_in_succession
from gnnscale.ops.subgraph import edges_between, edges_from
from tests.cuda.test_aggregation import skewed


def graph(ids: torch.dtype) -> tuple[Tensor, Tensor]:
    """A graph of 300 nodes, some with thousands of in-edges, parallel ones among them, and some with none."""
    indptr, indices = skewed(300)
    more = torch.randint(0, 12, (300 - len(indptr) + 1,)).cumsum(0)
    return torch.cat([indptr, indptr[-1] + more]).long(), torch.cat([indices, torch.randint(300, (int(more[-1]),))]).to(
        ids
    )


def on_the_cpu(
    indptr: Tensor, indices: Tensor, seeds: Tensor, fanouts: list[int], key: int, replace: bool
) -> list[Tensor]:
    nodes, hops = reference.sample_neighbors(indptr, indices, None, seeds, fanouts, key, replace, 2**31 - 1)
    return [nodes, *(part for hop in hops for part in hop)]


@pytest.mark.parametrize("ids", [torch.int32, torch.int64])
@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("fanouts", [[3], [10, 10], [1, 40, 0], [-1, 5], [100, 700], []])
@pytest.mark.parametrize("place", ["device", "pinned"])
def test_the_sample_is_the_cpus(
    device: torch.device, ids: torch.dtype, replace: bool, fanouts: list[int], place: str
) -> None:
    indptr, indices = graph(ids)
    seeds = torch.randperm(300)[:20]
    wanted = on_the_cpu(indptr, indices, seeds, fanouts, 2**64 - 12345, replace)
    here = (indptr.to(device), indices.to(device))
    if place == "pinned" and device.type == "cuda":
        here = (indptr.pin_memory(), indices.pin_memory())
    nodes, hops, importance = sample_neighbors(*here, seeds.to(device), fanouts, key=2**64 - 12345, replace=replace)
    found = [nodes]
    for hop, factors in zip(hops, importance, strict=True):
        found += [*hop, torch.empty(0) if factors is None else factors]
    assert all(part.device == device for part in found if part.numel())
    for mine, theirs in zip(found, wanted, strict=True):
        assert torch.equal(mine.cpu(), theirs)
        assert mine.dtype == theirs.dtype


@pytest.mark.parametrize("fanouts", [[3, 0], [2, 2, 1]])
def test_lists_of_several_tiles(device: torch.device, fanouts: list[int]) -> None:
    """More seeds and edges than a warp adds up at once."""
    indptr = torch.arange(4001) * 5
    indices = torch.randint(4000, (20000,), dtype=torch.int32)
    seeds = torch.randperm(4000)[:3500]
    wanted = on_the_cpu(indptr, indices, seeds, fanouts, 5, False)
    nodes, hops, importance = sample_neighbors(indptr.to(device), indices.to(device), seeds.to(device), fanouts, key=5)
    found = [nodes, *(part for hop, factors in zip(hops, importance, strict=True) for part in (*hop, factors))]
    for mine, theirs in zip(found, wanted, strict=True):
        assert torch.equal(mine.cpu(), theirs)


def test_seeds_that_are_repeated_are_refused(device: torch.device) -> None:
    indptr, indices = (part.to(device) for part in graph(torch.int32))
    with pytest.raises(ValueError, match="more than once"):
        sample_neighbors(indptr, indices, torch.tensor([4, 4], device=device), [3], key=0)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_graph_that_the_kernels_do_not_reach_is_refused() -> None:
    indptr, indices = graph(torch.int32)
    with pytest.raises(ValueError, match="indptr is on cpu and seeds on cuda:0; move it there, or pin its memory"):
        sample_neighbors(indptr, indices, torch.tensor([4]).cuda(), [3], key=0)


@pytest.mark.parametrize("iterations", [0, 1, -1])
@pytest.mark.parametrize("fanouts", [[3], [-1, 6], [5, 0, 4]])
def test_labor_is_the_cpus(device: torch.device, fanouts: list[int], iterations: int) -> None:
    indptr, indices = graph(torch.int32)
    seeds = torch.randperm(300)[:40]
    nodes, hops = reference.sample_labor(indptr, indices, seeds, fanouts, 11, iterations, False, 2**31 - 1)
    arguments = {"key": 11, "iterations": iterations}
    found = sample_labor(indptr.to(device), indices.to(device), seeds.to(device), fanouts, **arguments)
    assert torch.equal(found[0].cpu(), nodes)
    for hop, factors, wanted in zip(*found[1:], hops, strict=True):
        for mine, theirs in zip((*hop, torch.empty(0) if factors is None else factors), wanted, strict=True):
            assert torch.equal(mine.cpu(), theirs)


@pytest.mark.parametrize("weighted", [False, True])
def test_what_layerwise_samplers_draw_from_is_the_cpus(device: torch.device, weighted: bool) -> None:
    indptr, indices = graph(torch.int32)
    weight = torch.rand(len(indices)) if weighted else None
    rows, columns, destinations = torch.rand(300).double(), torch.rand(300).double(), torch.randperm(300)[:50]
    wanted = reference.column_sums(indptr, indices, destinations, rows, columns, weight)
    there = None if weight is None else weight.to(device)
    sources, sums = column_sums(
        indptr.to(device), indices.to(device), destinations.to(device), rows=rows.to(device),
        columns=columns.to(device), weight=there,
    )  # fmt: skip
    assert torch.equal(sources.cpu(), wanted[0])
    assert torch.equal(sums.cpu(), wanted[1])
    chance = torch.rand(2000).double() ** 8  # some far likelier than others, so that there are several rounds
    for size in (1, 400, 3000):
        drawn = draw_in_succession(chance.to(device), size, key=7)
        assert torch.equal(drawn.cpu(), reference.draw_in_succession(chance, size, 7))


def test_the_edges_among_nodes_are_the_cpus(device: torch.device) -> None:
    indptr, indices = graph(torch.int64)
    destinations, others = torch.randperm(300)[:60], torch.randperm(300)[:80]
    arrays = indptr.to(device), indices.to(device)
    found = edges_between(*arrays, destinations.to(device), others.to(device))
    for mine, theirs in zip(
        found, reference.edges_between(indptr, indices, destinations, others, 2**31 - 1), strict=True
    ):
        assert torch.equal(mine.cpu(), theirs)
    nodes, hop, origins, places = edges_from(*arrays, destinations.to(device), others.to(device))
    wanted = reference.edges_from(indptr, indices, destinations, others, 2**31 - 1)
    for mine, theirs in zip((nodes, *hop, origins, places), wanted, strict=True):
        assert torch.equal(mine.cpu(), theirs)
