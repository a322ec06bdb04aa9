"""Neighbour sampling: native against reference, against DGL, and against probability."""

import itertools
import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from gnnscale import ops
from gnnscale._dgl import dgl
from gnnscale.ops import reference
from gnnscale.ops._backend import native
from tests.ops.graphs import csc_of, edge_lists, random_csc

WIDE = 2**31 - 1

needs_native = pytest.mark.skipif(native is None, reason=ops.backend_reason())


def assert_same(a: tuple, b: tuple) -> None:
    torch.testing.assert_close(a[0], b[0], rtol=0, atol=0)
    assert len(a[1]) == len(b[1])
    for hop_a, hop_b in zip(a[1], b[1], strict=True):
        for x, y in zip(hop_a, hop_b, strict=True):
            torch.testing.assert_close(x, y, rtol=0, atol=0)  # dtypes included


def ways_to_draw(weight: Tensor) -> list[tuple[str, tuple, tuple]]:
    """Give the operations, and their arguments before the seeds and after the key."""
    return [
        ("sample_neighbors", (None,), (False,)),
        ("sample_neighbors", (None,), (True,)),
        ("sample_neighbors", (weight,), (False,)),
        ("sample_neighbors", (weight,), (True,)),
        ("sample_labor", (), (0, False)),
        ("sample_labor", (), (2, False)),
        ("sample_labor", (), (-1, True)),
    ]


@needs_native
@settings(deadline=None)
@given(
    graph=edge_lists(),
    data=st.data(),
    fanouts=st.lists(st.integers(-1, 6), max_size=4),
    key=st.integers(0, 2**64 - 1),
    way=st.integers(0, 6),
    dtype=st.sampled_from([torch.int32, torch.int64]),
    threads=st.sampled_from([1, 2, 4]),
    narrow_limit=st.sampled_from([WIDE, 20, 5, 0]),
    dense_nodes=st.sampled_from([WIDE, 0]),
)
def test_native_equals_reference(
    graph: tuple, data: st.DataObject, fanouts: list, key: int, way: int, dtype: torch.dtype,
    threads: int, narrow_limit: int, dense_nodes: int,
) -> None:  # fmt: skip
    src, dst, num_nodes = graph
    indptr, indices = csc_of(src, dst, num_nodes)
    indices = indices.to(dtype)
    seeds = data.draw(st.lists(st.integers(0, num_nodes - 1), unique=True))
    seeds = torch.tensor(seeds, dtype=torch.int64)
    weights = st.sampled_from([0.0, 1e-30, 0.3, 1.0, 1.0, 7.5])
    weight = torch.tensor(data.draw(st.lists(weights, min_size=len(indices), max_size=len(indices))))
    name, before, after = ways_to_draw(weight)[way]
    if name == "sample_labor":
        fanouts = [fanout or 1 for fanout in fanouts]
    arguments = (indptr, indices, *before, seeds, fanouts, key, *after)
    assert_same(
        getattr(native, name)(*arguments, threads, narrow_limit, dense_nodes),
        getattr(reference, name)(*arguments, narrow_limit),
    )


@needs_native
@pytest.mark.parametrize("way", range(7))
def test_native_equals_reference_on_long_rows_and_with_threads(way: int) -> None:
    # Rows of some thousand edges, fan-outs beyond 64, and enough work for four threads.
    indptr, indices = random_csc(2000, 400_000)
    generator = torch.Generator().manual_seed(3)
    weight = torch.rand(len(indices), generator=generator)
    weight[weight < 0.2] = 0
    seeds = torch.randperm(2000, generator=generator)[:700]
    name, before, after = ways_to_draw(weight)[way]
    arguments = (indptr, indices, *before, seeds, [100, 200, 3], 7, *after)
    wanted = getattr(reference, name)(*arguments, WIDE)
    assert len(wanted[1][1][1]) > 4 * 16384
    for threads, dense_nodes in ((1, WIDE), (2, WIDE), (4, 0)):
        assert_same(getattr(native, name)(*arguments, threads, WIDE, dense_nodes), wanted)


@needs_native
@pytest.mark.parametrize("dense_nodes", [WIDE, 0])
def test_samples_of_several_graphs_leave_nothing_to_each_other(dense_nodes: int) -> None:
    # The map of ids is kept between calls; small ones, large ones and refused ones take turns in it.
    graphs = [random_csc(size, 20 * size, seed) for seed, size in enumerate((50, 3000, 200, 3000, 50))]
    for key, (indptr, indices) in enumerate(graphs):
        seeds = torch.randperm(len(indptr) - 1)[:40]
        arguments = (indptr, indices, None, seeds, [5, 5], key, False)
        assert_same(
            native.sample_neighbors(*arguments, 2, WIDE, dense_nodes), reference.sample_neighbors(*arguments, WIDE)
        )
        with pytest.raises(ValueError, match="more than once"):
            native.sample_neighbors(*arguments[:3], seeds.repeat(2), *arguments[4:], 2, WIDE, dense_nodes)


@settings(deadline=None)
@given(
    graph=edge_lists(),
    data=st.data(),
    fanouts=st.lists(st.integers(-1, 4), max_size=3),
    replace=st.booleans(),
)
def test_structure(graph: tuple, data: st.DataObject, fanouts: list, replace: bool) -> None:
    src, dst, num_nodes = graph
    indptr, indices = csc_of(src, dst, num_nodes)
    seeds = torch.tensor(data.draw(st.lists(st.integers(0, num_nodes - 1), unique=True)), dtype=torch.int64)
    nodes, hops, _ = ops.sample_neighbors(indptr, indices, seeds, fanouts, key=1, replace=replace)

    assert nodes.unique().numel() == nodes.numel()
    assert nodes[: len(seeds)].tolist() == seeds.tolist()
    known = len(seeds)
    for hop, fanout in zip(hops, fanouts, strict=True):
        assert len(hop.indptr) == known + 1  # destinations: every node known before
        rows = torch.arange(known).repeat_interleave(hop.indptr.diff().long())
        assert torch.equal(indices[hop.positions], nodes[hop.indices.long()])  # each is a real edge ...
        assert bool((indptr[nodes[rows]] <= hop.positions).all())  # ... of its destination
        assert bool((hop.positions < indptr[nodes[rows] + 1]).all())
        for row in range(known):
            degree = int(indptr[nodes[row] + 1] - indptr[nodes[row]])
            drawn = hop.positions[rows == row].tolist()
            if replace and fanout >= 0:
                assert len(drawn) == (fanout if degree else 0)
            else:
                assert len(set(drawn)) == len(drawn) == (degree if fanout < 0 else min(degree, fanout))
                if len(drawn) == degree:
                    assert drawn == sorted(drawn)
        # New nodes come in the order of their first appearance, without gaps.
        new = [i for i in dict.fromkeys(hop.indices.tolist()) if i >= known]
        assert new == list(range(known, known + len(new)))
        known += len(new)
    assert known == len(nodes)


def test_all_neighbours_equal_dgl_in_subgraph() -> None:
    indptr, indices = random_csc(300, 3000)
    rows = torch.arange(300).repeat_interleave(indptr.diff())
    graph = dgl.graph((indices, rows), num_nodes=300)
    seeds = torch.tensor([5, 200, 0, 299])
    nodes, (hop,), _ = ops.sample_neighbors(indptr, indices, seeds, [-1], key=0)
    wanted = dgl.in_subgraph(graph, seeds)
    ours = zip(
        nodes[hop.indices.long()].tolist(),
        nodes[torch.arange(4).repeat_interleave(hop.indptr.diff().long())].tolist(),
        strict=True,
    )
    theirs = zip(*(end.tolist() for end in wanted.edges()), strict=True)
    assert sorted(ours) == sorted(theirs)
    assert sorted(hop.positions.tolist()) == sorted(wanted.edata[dgl.EID].tolist())


def regular(degree: int) -> tuple[Tensor, Tensor]:
    """20,000 nodes with `degree` in-edges each: one experiment a seed."""
    return torch.arange(20_001) * degree, torch.arange(20_000 * degree) % 20_000


def draws(fanout: int, degree: int, replace: bool = False, key: int = 11) -> Tensor:
    """Give (20000, fanout) positions drawn within each of 20,000 rows of equal degree."""
    indptr, indices = regular(degree)
    seeds = torch.arange(20_000)
    _, (hop,), _ = ops.sample_neighbors(indptr, indices, seeds, [fanout], key=key, replace=replace)
    return hop.positions.view(20_000, fanout) - indptr[:-1, None]


def uniform_p_values(sample: Tensor, degree: int) -> tuple[float, float]:
    """Give the p-values of equal inclusion of single edges and of pairs, for draws without replacement.

    Counts of draws without replacement vary less than multinomial ones: the statistics are scaled so that
    they follow a chi-square distribution.
    """
    rows, k = sample.shape
    chosen = torch.zeros(rows, degree).scatter_(1, sample, 1.0)
    share = k / degree
    singles = chosen.sum(0)
    statistic = ((singles - rows * share) ** 2).sum() / (rows * share * (1 - share)) * (degree - 1) / degree
    single = stats.chi2.sf(float(statistic), degree - 1)

    # Every k-subset is equally likely: the strongest statement, and easy to count for small degrees.
    codes = (chosen.long() << torch.arange(degree)).sum(1)
    subsets = [sum(1 << i for i in subset) for subset in itertools.combinations(range(degree), k)]
    counts = torch.bincount(codes, minlength=1 << degree)[subsets]
    return single, stats.chisquare(counts.numpy()).pvalue


@pytest.mark.parametrize(("fanout", "degree"), [(1, 7), (2, 5), (3, 8), (6, 7)])
def test_inclusion_is_uniform_without_replacement(fanout: int, degree: int) -> None:
    single, subsets = uniform_p_values(draws(fanout, degree), degree)
    assert single > 1e-3
    assert subsets > 1e-3


def test_a_biased_sampler_fails_the_same_check() -> None:
    # Neighbouring pairs: every edge is equally likely, but not every pair.
    first = draws(1, 5)
    single, subsets = uniform_p_values(torch.cat([first, (first + 1) % 5], 1), 5)
    assert single > 1e-3
    assert subsets < 1e-6
    # Slightly too often the first edge.
    sample = draws(2, 5)
    sample[:800] = torch.tensor([0, 1])
    assert uniform_p_values(sample, 5)[0] < 1e-6


def test_pairwise_inclusion_of_long_rows() -> None:
    # 70 of 90: past the fan-out where the search for repeats changes.
    chosen = torch.zeros(20_000, 90).scatter_(1, draws(70, 90), 1.0)
    row, column = torch.triu_indices(90, 90, 1)
    together = (chosen.T @ chosen / 20_000)[row, column]
    probability = 70 * 69 / (90 * 89)
    z = (together - probability) / (probability * (1 - probability) / 20_000) ** 0.5
    assert z.abs().max() < 5.5  # of 4005 pairs
    assert 0.85 < z.std() < 1.15


def test_draws_with_replacement_are_uniform_and_independent() -> None:
    sample = draws(2, 6, replace=True)
    counts = torch.bincount(sample[:, 0] * 6 + sample[:, 1], minlength=36)
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_keys_and_hops_give_independent_draws() -> None:
    def p_value(a: Tensor, b: Tensor) -> float:
        return stats.chisquare(torch.bincount(a[:, 0] * 8 + b[:, 0], minlength=64).numpy()).pvalue

    assert p_value(draws(1, 8, key=1), draws(1, 8, key=2)) > 1e-3
    indptr, indices = regular(8)
    _, hops, _ = ops.sample_neighbors(indptr, indices, torch.arange(20_000), [1, 1], key=1)
    first, second = (hop.positions[:20_000, None] - indptr[:-1, None] for hop in hops)
    assert p_value(first, second) > 1e-3


def test_draws_depend_on_the_global_id_alone() -> None:
    indptr, indices = random_csc(500, 20_000)
    alone = ops.sample_neighbors(indptr, indices, torch.tensor([17]), [5], key=3)[1][0].positions
    among = ops.sample_neighbors(indptr, indices, torch.tensor([400, 3, 17, 8]), [5], key=3)[1][0]
    assert torch.equal(among.positions[among.indptr[2] : among.indptr[3]], alone)


def test_python_threads_at_the_same_time_give_the_same() -> None:
    indptr, indices = random_csc(5000, 100_000)

    def sample(key: int) -> tuple:
        return ops.sample_neighbors(indptr, indices, torch.tensor([key, 99]), [10, 10], key=key)

    serial = [sample(key) for key in range(50)]
    with ThreadPoolExecutor(4) as pool:
        for ours, wanted in zip(pool.map(sample, range(50)), serial, strict=True):
            assert_same(ours, wanted)


def test_a_forked_process_samples_too() -> None:
    indptr, indices = random_csc(2000, 400_000)
    arguments = (indptr, indices, torch.arange(700), [50, 50])
    wanted = ops.sample_neighbors(*arguments, key=5, num_threads=2)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        nodes = pool.apply(nodes_of_sample, arguments)
    assert nodes == wanted[0].tolist()


PARENT_WITH_OTHERS_THREADS = """
import multiprocessing, torch
from gnnscale import ops

torch.set_num_threads(1)
indptr = torch.arange(2001) * 100
indices = torch.randint(2000, (200_000,), dtype=torch.int32)


def child(queue):
    queue.put(ops.sample_neighbors(indptr, indices, torch.arange(700), [50, 50], key=5, num_threads=2)[0].numel())


if __name__ == "__main__":
    torch.set_num_threads(2)
    torch.randn(4_000_000).mul_(2)  # OpenMP's threads, and not ours
    queue = multiprocessing.get_context("fork").SimpleQueue()
    process = multiprocessing.get_context("fork").Process(target=child, args=(queue,))
    process.start()
    print(queue.get())
"""


def test_a_process_forked_beside_torchs_threads_samples_too(tmp_path: Path) -> None:
    """GNU's OpenMP would wait for threads that stayed in the parent."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT_WITH_OTHERS_THREADS)
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 700


@needs_native
@pytest.mark.parametrize("fanouts", [[-1], [10, 10]])
def test_what_is_wrong_is_told_alike_whatever_the_number_of_threads(fanouts: list[int]) -> None:
    indptr, indices = random_csc(5000, 200_000)
    indices[1000], indices[60_000], indices[199_000:] = 5007, -3, 5000
    told, seeds = set(), torch.randperm(5000)
    for threads in (1, 2, 7, 7, 7):
        with pytest.raises(ValueError, match=r"indices\[\d+\] is") as caught:
            ops.sample_neighbors(indptr, indices, seeds, fanouts, key=1, num_threads=threads)
        told.add(str(caught.value))
    assert len(told) == 1


def nodes_of_sample(indptr: Tensor, indices: Tensor, seeds: Tensor, fanouts: list[int]) -> list[int]:
    return ops.sample_neighbors(indptr, indices, seeds, fanouts, key=5, num_threads=2)[0].tolist()


@pytest.fixture(params=["native", "torch"])
def either_backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "torch":
        monkeypatch.setattr("gnnscale.ops.sampling.native", None)
    elif native is None:
        pytest.skip(ops.backend_reason())


@pytest.mark.usefixtures("either_backend")
def test_wrong_arguments_get_a_sentence() -> None:
    indptr, indices = random_csc(10, 40)
    seeds = torch.tensor([1, 2])

    def refused(error: type[Exception], sentence: str, **changes: object) -> None:
        arguments: dict = {"indptr": indptr, "indices": indices, "seeds": seeds, "fanouts": [2], "key": 0}
        with pytest.raises(error, match=sentence):
            ops.sample_neighbors(**(arguments | changes))

    refused(ValueError, "seeds holds node 4 more than once", seeds=torch.tensor([3, 4, 4]))
    refused(ValueError, r"seeds\[1\] is 10; node ids of this graph are 0 to 9", seeds=torch.tensor([3, 10]))
    refused(ValueError, r"seeds\[0\] is -1", seeds=torch.tensor([-1]))
    refused(TypeError, "seeds must be int32 or int64; got float32", seeds=torch.ones(2))
    refused(TypeError, "indptr must be int64; got int32", indptr=indptr.int())
    refused(TypeError, "indices must be a torch tensor; got list", indices=[1])
    refused(ValueError, "indices is not contiguous", indices=indices[::2])
    refused(ValueError, "seeds must have one dimension", seeds=seeds[None])
    refused(ValueError, r"fanouts\[1\] is -2", fanouts=[1, -2])
    refused(TypeError, r"fanouts\[0\] must be an integer; got float", fanouts=[1.5])
    refused(TypeError, "fanouts must be a sequence of integers", fanouts=3)
    refused(ValueError, r"fanouts\[1\] is 9223372036854775808; give less", fanouts=[1, 2**63])
    for fanout in (2**31, 2**61, 2**62, 2**63 - 1):
        refused(ValueError, rf"fanouts\[0\] is {fanout}; with replacement", fanouts=[fanout], replace=True)
    refused(TypeError, "seeds must be a torch tensor; got list", seeds=[1])
    refused(TypeError, "seeds must be a torch tensor; got NoneType", seeds=None)
    refused(TypeError, "seeds must be a dense tensor; its layout is sparse_coo", seeds=seeds.to_sparse())
    refused(TypeError, "replace must be True or False; got str", replace="no")
    refused(TypeError, "num_threads must be an integer; got float", num_threads=1.5)
    refused(TypeError, "key must be an integer; got str", key="1")
    refused(ValueError, "key is -1", key=-1)
    refused(ValueError, "num_threads is 0", num_threads=0)
    refused(ValueError, "indptr is no CSC pointer array", indptr=indptr.flip(0).contiguous())
    refused(ValueError, r"indices\[\d+\] is 10; node ids", indices=torch.full((40,), 10))
    # A refused call leaves nothing behind: the same call, put right, is right.
    nodes, _, _ = ops.sample_neighbors(indptr, indices, torch.tensor([3, 4]), [0], key=0)
    assert nodes.tolist() == [3, 4]


@pytest.mark.usefixtures("either_backend")
def test_more_edges_or_threads_than_there_are_is_all_of_them() -> None:
    indptr, indices = random_csc(10, 40)
    graph = (indptr, indices, torch.tensor([1, 2]))
    wanted = ops.sample_neighbors(*graph, [-1], key=0)[1][0].positions.tolist()
    for weight in (None, torch.ones(40)):
        _, (hop,), _ = ops.sample_neighbors(*graph, [2**63 - 1], key=0, weight=weight, num_threads=2**40)
        assert hop.positions.tolist() == wanted
    for iterations in (0, 2, -1):
        _, (hop,), _ = ops.sample_labor(*graph, [2**63 - 1], key=0, iterations=iterations)
        assert hop.positions.tolist() == wanted
        _, (hop,), _ = ops.sample_labor(*graph, [0], key=0, iterations=iterations)
        assert len(hop.positions) == 0
    with pytest.raises(ValueError, match="iterations is 9223372036854775808"):
        ops.sample_labor(*graph, [1], key=0, iterations=2**63)


@pytest.mark.usefixtures("either_backend")
@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -1.0])
@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("fanout", [1, 2, 5])
def test_weights_that_are_read_have_to_be_finite_and_not_negative(wrong: float, replace: bool, fanout: int) -> None:
    indptr, indices = torch.tensor([0, 3, 5, 5]), torch.tensor([2, 1, 0, 1, 2])
    for place, others in ((1, 1.0), (2, 0.0)):
        weight = torch.full((5,), others)
        weight[place] = wrong
        with pytest.raises(ValueError, match=rf"weight\[{place}\] is no finite number"):
            ops.sample_neighbors(indptr, indices, torch.tensor([1, 0]), [fanout], key=0, weight=weight, replace=replace)
        ops.sample_neighbors(indptr, indices, torch.tensor([1]), [fanout], key=0, weight=weight, replace=replace)
