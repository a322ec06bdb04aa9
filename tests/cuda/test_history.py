"""Rows of tables by the kernels: the bits of the CPU's encoding, and the order of the calls."""

import pytest
import torch
from torch import Tensor

pytest.importorskip("numpy")  # which the stores use

from gnnscale.history import FeatureStore, HistoryStore, encoding, kernels
from gnnscale.history.memory import LocalMemory
from gnnscale.history.transfers import TorchTransfers
from gnnscale.ops._backend import cuda_kernels

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.int8]
WIDTHS = [1, 3, 4, 20, 33, 128, 300]


@pytest.fixture(params=["device", "pinned"])
def transfers(request: pytest.FixtureRequest, device: torch.device) -> TorchTransfers:
    """With tables on the device or in pinned memory; `table` makes one."""
    made = TorchTransfers(device, pinned=request.param == "pinned")
    pin = device.type == "cuda" and request.param == "pinned"
    made.table = lambda rows, dtype, width: LocalMemory(rows, dtype, "cpu" if pin else device, pin).add(width)
    return made


def telling(count: int, width: int) -> Tensor:
    """Rows with numbers at the ends of all types' ranges."""
    rows = torch.randn(count, width) * 10.0 ** torch.randint(-42, 39, (count, 1))
    odd = torch.tensor([0.0, -0.0, 65504, 65520, 1e-45, 6e-8, 3.4e38, torch.inf, -torch.inf, torch.nan, 1e-40, 127.5])
    rows[: len(odd), 0] = odd
    return rows


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", WIDTHS)
def test_rows_are_encoded_as_on_the_cpu(device: torch.device, dtype: torch.dtype, width: int) -> None:
    rows = telling(100, width)
    stored, scales = kernels.encode(cuda_kernels(device), rows.to(device), dtype)
    wanted, wanted_scales = encoding.encode(rows, dtype)
    same = torch.equal if dtype == torch.int8 else lambda a, b: torch.equal(a.nan_to_num(7), b.nan_to_num(7))
    assert same(stored.cpu(), wanted)
    assert torch.equal(stored.cpu().isnan(), wanted.isnan())
    if scales is not None:
        torch.testing.assert_close(scales.cpu(), wanted_scales, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", WIDTHS)
def test_what_is_pushed_is_pulled(
    transfers: TorchTransfers, device: torch.device, dtype: torch.dtype, width: int
) -> None:
    table, rows = transfers.table(150, dtype, width), telling(100, width)
    ids = torch.randperm(150)[:100]
    transfers.push(table, ids, rows.to(device), step=3)
    pulled = transfers.pull(table, torch.arange(150), step=5).wait().cpu()
    wanted = torch.zeros(150, width)
    wanted[ids] = encoding.decode(*encoding.encode(rows, dtype))
    torch.testing.assert_close(pulled, wanted, rtol=0, atol=0, equal_nan=True)
    transfers.flush()
    assert torch.equal(table.written.cpu(), torch.zeros(150, dtype=torch.int32).index_fill(0, ids, 3))
    assert transfers.statistics()[:3] == (150, 100 * 2 + 50 * 5, 5)


def test_the_last_of_repeated_rows_stays_and_all_is_in_order(transfers: TorchTransfers, device: torch.device) -> None:
    table = transfers.table(10, torch.float32, 2)
    ids, rows = torch.tensor([1, 1, 7, 1]), torch.arange(8.0).view(4, 2).to(device)
    transfers.push(table, ids.to(device), rows, step=0)
    early = transfers.pull(table, ids, step=0)
    rows.fill_(-1)  # they are the caller's again
    transfers.push(table, ids, rows, step=1)
    late = transfers.pull(table, ids.to(device), step=1)
    assert early.wait().tolist() == [[6, 7], [6, 7], [4, 5], [6, 7]]
    assert late.wait().tolist() == 4 * [[-1, -1]]


def test_rows_that_are_not_there_are_refused(transfers: TorchTransfers) -> None:
    table = transfers.table(10, torch.float32, 2)
    with pytest.raises(IndexError, match="the table has 10 rows"):
        transfers.pull(table, torch.tensor([10]), step=0)


@pytest.mark.parametrize("placement", ["device", "pinned", "host"])
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_stores_on_a_gpu(device: torch.device, placement: str, dtype: str) -> None:
    if device.type == "cpu":
        pytest.skip("the host has no streams")
    rows, ids = torch.randn(1000, 64), torch.randint(1000, (300,))
    features = FeatureStore(rows, placement=placement, device=device, dtype=dtype, cache_rows=10, hot=torch.rand(1000))
    wanted = encoding.decode(*encoding.encode(rows, getattr(torch, dtype)))
    assert torch.equal(features.pull(ids).wait().cpu(), wanted[ids])
    history = HistoryStore(1000, [64], placement=placement, device=device, dtype=dtype)
    assert not history.pull(0, ids).wait().any()  # whose zeros the caller's stream has written
    history.push(0, torch.arange(1000), rows.to(device))
    assert torch.equal(history.pull(0, ids).wait().cpu(), wanted[ids])
    state = history.state_dict()
    history.reset()
    assert not history.pull(0, ids).wait().any()
    history.load_state_dict({**state, "tables": [{k: v.to(device) for k, v in t.items()} for t in state["tables"]]})
    assert torch.equal(history.pull(0, ids).wait().cpu(), wanted[ids])
    history.grow(1100)
    assert torch.equal(history.pull(0, ids).wait().cpu(), wanted[ids])
    assert not history.pull(0, torch.arange(1000, 1100)).wait().any()
    history.take_traffic()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_pull_does_not_wait_for_what_the_caller_computes() -> None:
    features = FeatureStore(torch.randn(1000, 64), placement="pinned", device="cuda")
    features.pull(torch.arange(1000)).wait()  # what the first one allocates
    torch.cuda.synchronize()
    torch.cuda._sleep(2_000_000_000)  # about a second
    pull = features.pull(torch.arange(1000))
    end = torch.cuda.current_stream().record_event()
    while not pull.done():
        pass
    assert not end.query()
