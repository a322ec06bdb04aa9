"""Features with copies of the hottest rows on the device: one kernel reads both, and counts."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

pytest.importorskip("numpy")  # which the stores use

from gnnscale.history import FeatureStore, encoding, transfers

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.int8]


@pytest.fixture(params=["device", "pinned"])
def where(request: pytest.FixtureRequest, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> dict:
    """Where a store is: on the host, whose kernels reach all its memory, that is the same twice."""
    if device.type == "cuda":
        return {"placement": request.param, "device": device}
    if request.param == "pinned":
        pytest.skip("the host's memory is the device's")
    monkeypatch.setattr(transfers, "native", None)
    return {"placement": "host", "device": device}


def requests(scores: Tensor, num_hot: int) -> dict[str, Tensor]:
    order = scores.argsort(descending=True)
    return {
        "hits alone": order[:num_hot],
        "misses alone": order[num_hot:],
        "all, in any order": torch.randperm(len(scores)),
        "repeated": torch.randint(len(scores), (4 * len(scores),)),
        "one": order[:1],
        "none": order[:0],
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [1, 3, 4, 20, 33, 128, 300])
@pytest.mark.parametrize("on_device", [False, True])
def test_rows_are_those_of_a_store_without_copies(where: dict, dtype: torch.dtype, width: int, on_device: bool) -> None:
    features, scores = torch.randn(150, width), torch.rand(150)
    plain = FeatureStore(features, dtype=dtype, **where)
    store = FeatureStore(features, dtype=dtype, cache_rows=40, hot=scores, **where)
    is_hot = torch.zeros(150, dtype=torch.int64).index_fill(0, scores.topk(40).indices, 1)
    size = width * torch.empty(0, dtype=dtype).element_size() + 4 * (dtype == torch.int8)
    for ids in requests(scores, 40).values():
        given = ids.to(where["device"]) if on_device else ids
        found, hits = store.pull(given).wait(), int(is_hot[ids].sum())
        assert torch.equal(found, plain.pull(ids).wait())
        assert torch.equal(found.cpu(), encoding.decode(*encoding.encode(features, dtype))[ids])
        traffic = store.statistics()
        assert (traffic.rows, traffic.hits) == (len(ids), hits)
        assert (traffic.bytes_from_cache, traffic.bytes_from_store) == (size * hits, size * (len(ids) - hits))


def test_copies_are_read_where_there_are_some(where: dict) -> None:
    """Other copies give other rows, of these ids and no others."""
    features, scores = torch.randn(50, 8), torch.arange(50)
    store = FeatureStore(features, cache_rows=10, hot=scores, **where)
    pulled = store.pull(torch.arange(50))
    assert pulled._handle is not None
    assert not pulled._others
    assert torch.equal(pulled.wait().cpu(), features)
    with store._beside():
        store._hot.copies.rows.neg_()
    assert torch.equal(store.pull(torch.arange(50)).wait().cpu(), torch.cat([features[:40], -features[40:]]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.int8])
def test_what_is_read_most_is_copied(where: dict, dtype: torch.dtype) -> None:
    features = torch.randn(100, 6)
    expected = encoding.decode(*encoding.encode(features, dtype))
    store = FeatureStore(features, dtype=dtype, cache_rows=10, hot="access", **where)
    favourites = torch.randperm(100)[:10]
    for ids in (torch.arange(100), favourites.repeat(3), favourites[:0]):
        assert torch.equal(store.pull(ids).wait().cpu(), expected[ids])
    assert store.statistics().hits == 0
    early = store.pull(torch.arange(100))
    store.recache()
    late = store.pull(torch.arange(100))
    for pull in (early, late):
        assert torch.equal(pull.wait().cpu(), expected)
    traffic = store.statistics()
    assert (traffic.rows, traffic.hits) == (200, 10)
    assert store._accesses.cpu().tolist() == [3 + 3 * (node in favourites) for node in range(100)]
    assert store.statistics().rows == 0
    others = torch.tensor([node for node in range(100) if node not in favourites])[:10].repeat(9)
    store.pull(others)
    store.recache()
    assert torch.equal(store.pull(others).wait().cpu(), expected[others])
    assert store.statistics().hits == 90


def test_ids_that_are_no_rows_are_refused_on_the_host(where: dict) -> None:
    store = FeatureStore(torch.ones(5, 2), cache_rows=2, hot=torch.rand(5), **where)
    for bad in (5, -1):
        with pytest.raises(IndexError, match=rf"ids\[1\] is {bad}; the table has 5 rows"):
            store.pull(torch.tensor([0, bad]))
    store = FeatureStore(torch.ones(5, 2), cache_rows=0, hot="access", **where)
    assert store.pull(torch.tensor([3], device=where["device"])).wait().tolist() == [[1, 1]]
    store.recache()


@pytest.mark.parametrize("placement", ["device", "pinned", "host", "file"])
def test_rows_are_for_the_stream_that_waits_for_them(device: torch.device, placement: str, tmp_path: Path) -> None:
    if device.type == "cpu":
        pytest.skip("the host has no streams")
    features, ids = torch.randn(100, 8), torch.randint(100, (300,))
    path = tmp_path / "features" if placement == "file" else None
    store = FeatureStore(features, placement=placement, path=path, device=device, cache_rows=20, hot=torch.rand(100))
    pull = store.pull(ids)
    with torch.cuda.stream(torch.cuda.Stream()):
        assert torch.equal(pull.wait().cpu(), features[ids])


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("placement", ["device", "pinned"])
def test_a_pull_keeps_the_host_from_nothing(placement: str) -> None:
    store = FeatureStore(
        torch.randn(1000, 64), placement=placement, device="cuda", cache_rows=100, hot=torch.rand(1000)
    )
    ids = torch.arange(1000, device="cuda")
    store.pull(ids).wait()  # what the first one allocates
    torch.cuda.synchronize()
    torch.cuda._sleep(2_000_000_000)  # about a second
    store.pull(ids).wait()
    assert not torch.cuda.current_stream().query()
