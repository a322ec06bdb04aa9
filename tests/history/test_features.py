import math
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gnnscale as gs
from gnnscale.history import features as module
from gnnscale.history import transfers
from gnnscale.history.encoding import decode, encode
from gnnscale.history.features import FeatureStore
from gnnscale.history.mapped import MappedMemory

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.int8]


@pytest.fixture(params=["native", "torch"], autouse=True)
def backend(request, monkeypatch):
    if request.param == "torch":
        monkeypatch.setattr(transfers, "native", None)
    elif transfers.native is None:
        pytest.skip("there is no native code")


def make(features, placement, folder, **arguments):
    path = folder / "features" if placement == "file" else None
    return FeatureStore(features, placement=placement, path=path, **arguments)


@pytest.mark.parametrize("cache_rows", [0, 1, 20, 100, 1000])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("placement", ["host", "file"])
def test_rows_are_those_of_plain_indexing(placement, dtype, cache_rows, tmp_path):
    features = torch.randn(100, 7)
    expected = decode(*encode(features, dtype))
    store = make(features, placement, tmp_path, dtype=dtype, cache_rows=cache_rows, hot=torch.rand(100))
    for size in (0, 1, 5, 300):
        ids = torch.randint(100, (size,))
        pulled = store.pull(ids)
        rows = pulled.wait()
        assert torch.equal(rows, expected[ids])
        assert pulled.done
        assert pulled.wait() is rows
    assert torch.equal(store.rows(0, 100), expected)
    assert torch.equal(store.rows(30, 31), expected[30:31])
    assert torch.equal(store.rows(90, 120), expected[90:])
    assert store.rows(7, 7).shape == (0, 7)
    store.close()


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 12),
    st.integers(0, 12),
    st.sampled_from(DTYPES),
    st.lists(st.lists(st.integers(0, 11), max_size=9), max_size=8),
    st.integers(0, 7),
)
def test_hits_are_counted_and_measured_access_decides(num_rows, cache_rows, dtype, requests, recache_after):
    features = torch.randn(num_rows, 3)
    expected = decode(*encode(features, dtype))
    store = FeatureStore(features, dtype=dtype, cache_rows=cache_rows, hot="access")
    size = 3 * torch.empty(0, dtype=dtype).element_size() + (4 if dtype == torch.int8 else 0)
    counts, cached, hits, rows = [0] * num_rows, set(), 0, 0
    for number, request in enumerate(requests):
        nodes = [node % num_rows for node in request]
        pull = store.pull(torch.tensor(nodes, dtype=torch.int64))
        hits, rows = hits + sum(node in cached for node in nodes), rows + len(nodes)
        for node in nodes:
            counts[node] += 1
        if number == recache_after:
            store.recache()
            kept = min(cache_rows, num_rows)
            cached = {node for node in range(num_rows) if store._cache is not None and store._cache.slots[node] >= 0}
            assert len(cached) == kept
            # No row outside has been read more often than one inside.
            outside = [counts[node] for node in range(num_rows) if node not in cached]
            assert not cached or not outside or max(outside) <= min(counts[node] for node in cached)
        assert torch.equal(pull.wait(), expected[nodes])
    traffic = store.statistics()
    assert (traffic.rows, traffic.hits) == (rows, hits)
    assert traffic.bytes_from_cache == size * hits
    assert traffic.bytes_from_store == size * (rows - hits)
    assert store.statistics().rows == 0
    store.close()


def test_the_hit_rate_of_a_power_law_graph_is_the_counted_one():
    """Neighbour sampling asks for rows as often as they have out-edges, so a few rows serve most requests."""
    data = gs.load("rmat", num_nodes=3000, num_edges=40_000, num_features=8)
    degrees = data.graph.out_degrees()
    loader = gs.DataLoader(data.graph, data.train_ids, gs.samplers.NeighborSampler([10, 10]), batch_size=100)
    batches = [batch.input_nodes for batch in loader]

    def hit_rate(hot):
        store = FeatureStore(data.graph.ndata["feat"], cache_rows=300, hot=hot)
        if isinstance(hot, str):
            for nodes in batches:
                store.pull(nodes).wait()
            store.recache()
            store.statistics()
        for nodes in batches:
            assert torch.equal(store.pull(nodes).wait(), data.graph.ndata["feat"][nodes])
        cached = set(np.flatnonzero(store._cache.slots >= 0).tolist())
        counted = [node in cached for nodes in batches for node in nodes.tolist()]
        rate = store.statistics().hit_rate
        assert rate == sum(counted) / len(counted)
        return rate, cached

    by_degree, cached = hit_rate(degrees)
    assert min(degrees[list(cached)]) >= degrees.sort(descending=True).values[299]
    # What is measured on the same batches is the best that 300 rows can do; random rows get their share.
    by_access, _ = hit_rate("access")
    at_random, _ = hit_rate(torch.rand(3000))
    assert by_access >= by_degree > 2 * at_random


def test_a_file_larger_than_the_cache_outlives_the_store(tmp_path):
    features = torch.randn(5000, 40)
    path = tmp_path / "features"
    FeatureStore.write(path, features, dtype="float16")
    assert os.listdir(tmp_path) == ["features"]
    assert path.stat().st_size >= 5000 * 40 * 2
    for _ in range(2):
        store = FeatureStore.open(path, cache_rows=100, hot=torch.arange(5000))
        assert (len(store), store.width, store.dtype, store.placement) == (5000, 40, torch.float16, "file")
        assert store.nbytes == 5000 * 40 * 2
        assert store.path == path
        ids = torch.randint(5000, (3000,))
        assert torch.equal(store.pull(ids).wait(), features[ids].half().float())
        assert 0 < store.statistics().hit_rate < 1
        store.close()


def test_two_stores_may_read_one_file(tmp_path):
    features = torch.randn(50, 4)
    FeatureStore.write(tmp_path / "features", features)
    one, two = FeatureStore.open(tmp_path / "features"), FeatureStore.open(tmp_path / "features")
    assert torch.equal(one.pull(torch.arange(50)).wait(), two.pull(torch.arange(50)).wait())


@pytest.mark.parametrize("kind", ["<f4", "<f8", "<f2"])
def test_a_memmap_is_written_piece_by_piece(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", 70)  # ten rows, and a shorter piece at the end
    values = np.random.default_rng(0).standard_normal((123, 7)).astype(kind)
    np.save(tmp_path / "values.npy", values)
    FeatureStore.write(tmp_path / "features", np.load(tmp_path / "values.npy", mmap_mode="r"))
    store = FeatureStore.open(tmp_path / "features")
    assert store.dtype == (torch.float16 if kind == "<f2" else torch.float32)
    assert torch.equal(store.rows(0, 123), torch.from_numpy(values).float())


def test_a_write_that_fails_leaves_nothing_and_the_old_file_as_it_was(tmp_path, monkeypatch):
    features = torch.randn(20, 3)
    FeatureStore.write(tmp_path / "features", features)

    def full(rows, dtype):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "encode", full)
    with pytest.raises(OSError, match="No space"):
        FeatureStore.write(tmp_path / "features", torch.zeros(20, 3))
    assert os.listdir(tmp_path) == ["features"]
    assert torch.equal(FeatureStore.open(tmp_path / "features").rows(0, 20), features)


@pytest.mark.parametrize("placement", ["host", "file"])
def test_threads_read_at_random_while_the_cache_changes(placement, tmp_path):
    features = torch.randn(400, 5)
    store = make(features, placement, tmp_path, cache_rows=50, hot="access")

    def read(seed):
        generator = torch.Generator().manual_seed(seed)
        for number in range(40):
            ids = (400 * torch.rand(60, generator=generator).square()).long()
            pull = store.pull(ids)
            if number % 10 == seed:
                store.recache()
            if not torch.equal(pull.wait(), features[ids]):
                return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(read, range(4)))
    traffic = store.statistics()
    assert traffic.rows == int(store._accesses.sum()) == 4 * 40 * 60
    assert traffic.hit_rate > 50 / 400


def test_host_memory_is_used_in_place():
    features = torch.randn(10, 3, requires_grad=True)
    store = FeatureStore(features)
    assert store.rows(2, 4).data_ptr() == features[2:].data_ptr()
    assert not store.pull(torch.arange(4)).wait().requires_grad
    # Not where rows are not one after the other, or are stored otherwise.
    columns = features.detach()[:, :2]
    ids = torch.tensor([3, 3, 9])
    assert torch.equal(FeatureStore(columns).pull(ids).wait(), columns[ids])
    assert FeatureStore(features, dtype="int8").nbytes == 10 * (3 + 4)
    # Nor aligned.
    flat = torch.randn(31)
    assert torch.equal(FeatureStore(flat[1:].view(10, 3)).pull(ids).wait(), flat[1:].view(10, 3)[ids])


def test_a_wrong_twin_is_found():
    """A store that puts the cached rows first fails where they are mixed."""
    features = torch.randn(100, 3)
    store = FeatureStore(features, cache_rows=50, hot=torch.rand(100))
    pull = store.pull(torch.arange(100))
    pull._others = [(torch.arange(50), handle) for _, handle in pull._others]
    assert not torch.equal(pull.wait(), features)


def test_no_rows_were_read():
    assert math.isnan(FeatureStore(torch.ones(2, 2)).statistics().hit_rate)


def test_it_shows_what_it_is(tmp_path):
    assert repr(FeatureStore(torch.ones(3, 2))) == "FeatureStore(3 rows, width=2)"
    store = make(torch.ones(3, 2), "file", tmp_path, dtype="int8", cache_rows=9, hot=torch.ones(3))
    assert repr(store) == "FeatureStore(3 rows, width=2, dtype='int8', placement='file', cache_rows=3)"


def test_a_forked_process_reads_on():
    features = torch.randn(50, 3)
    store = FeatureStore(features, cache_rows=10, hot=torch.rand(50))
    store.pull(torch.arange(50)).wait()
    child = os.fork()
    if child == 0:
        try:
            same = torch.equal(store.pull(torch.arange(50)).wait(), features)
        except BaseException:
            same = False
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert torch.equal(store.pull(torch.arange(50)).wait(), features)


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({"features": [[1.0]]}, TypeError, "features is of type list; pass a tensor or a numpy array"),
        ({"features": torch.ones(3)}, ValueError, r"features has shape \(3,\) and dtype float32; pass floating-point"),
        ({"features": torch.ones(3, 0)}, ValueError, r"features has shape \(3, 0\)"),
        ({"features": torch.ones(3, 2).long()}, ValueError, r"dtype int64; pass floating-point .* features.float\(\)"),
        (
            {"placement": "shared"},
            ValueError,
            "placement='shared' is unknown; choose one of host, pinned, device, file",
        ),
        ({"dtype": "float8"}, ValueError, "float8"),
        ({"placement": "file"}, ValueError, "path"),
        ({"placement": "device"}, ValueError, "GPU"),
        ({"cache_rows": -1}, ValueError, "cache_rows=-1 has to be an integer of at least 0"),
        ({"cache_rows": 1.5}, ValueError, "cache_rows=1.5 has to be an integer of at least 0"),
        ({"cache_rows": 2}, ValueError, r"cache_rows=2 does not say which rows; give scores, such as"),
        ({"cache_rows": 2, "hot": torch.ones(4)}, ValueError, r"hot has shape \(4,\); .* shape \(3,\)"),
        ({"hot": "degree"}, ValueError, "hot='degree' is neither scores, such as graph.out_degrees"),
    ],
)
def test_bad_input_is_one_sentence(arguments, error, sentence):
    with pytest.raises(error, match=sentence):
        FeatureStore(**{"features": torch.ones(3, 2), **arguments})


def test_what_else_is_refused_in_a_sentence(tmp_path):
    store = FeatureStore(torch.ones(3, 2))
    with pytest.raises(ValueError, match="reads are not counted; make the store with hot='access'"):
        store.recache()
    for cache_rows in (0, 2):
        store = FeatureStore(torch.ones(3, 2), cache_rows=cache_rows, hot=torch.ones(3))
        for bad in (3, -1):
            with pytest.raises(IndexError, match=rf"ids\[1\] is {bad}; the table has 3 rows"):
                store.pull(torch.tensor([0, bad])).wait()
    (tmp_path / "features").write_bytes(b"something")
    with pytest.raises(ValueError, match=r"exists; open it with FeatureStore\.open, or delete it"):
        FeatureStore(torch.ones(3, 2), placement="file", path=tmp_path / "features")
    with pytest.raises(ValueError, match="is not a file of a HistoryStore or FeatureStore"):
        FeatureStore.open(tmp_path / "features")
    MappedMemory.create(3, torch.float32, path=tmp_path / "history").close()
    with pytest.raises(ValueError, match="holds histories"):
        FeatureStore.open(tmp_path / "history")
    with pytest.raises(MemoryError, match=r"need .* TB of disk"):
        FeatureStore.write(tmp_path / "large", torch.zeros(1, 1).expand(10**12, 10))
    with pytest.raises(FileNotFoundError):
        FeatureStore.open(tmp_path / "nothing")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("placement", ["host", "pinned", "device", "file"])
def test_on_a_gpu(placement, dtype, tmp_path):
    features = torch.randn(1000, 16)
    expected = decode(*encode(features, dtype))
    store = make(features, placement, tmp_path, dtype=dtype, device="cuda", cache_rows=200, hot=torch.rand(1000))
    requests = [torch.randint(1000, (500,)) for _ in range(20)]
    pulls = [store.pull(ids) for ids in requests]
    for ids, pull in zip(requests, pulls, strict=True):
        torch.testing.assert_close(pull.wait().cpu(), expected[ids], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(store.rows(0, 1000).cpu(), expected, rtol=1e-6, atol=1e-6)
    assert 0.1 < store.statistics().hit_rate < 0.3
