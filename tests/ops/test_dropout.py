"""Dropout: its mask by statistics and by its contract, its gradient, its module."""

import importlib
import math
from collections.abc import Iterator

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from gnnscale import nn
from gnnscale.ops import dropout, reference
from gnnscale.ops.random import fold

# Not by its dotted name, which is that of the function.
MODULE = importlib.import_module("gnnscale.ops.dropout")

probabilities = st.floats(0, 1, exclude_max=True)
keys = st.integers(0, 2**64 - 1)
shapes = st.lists(st.integers(0, 40), max_size=3).map(tuple)


@pytest.fixture(params=["native", "torch"])
def either_backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "torch":
        monkeypatch.setattr(MODULE, "native", None)


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def kept(p: float, key: int, *shape: int) -> Tensor:
    return dropout(torch.ones(*shape), p, key=key) != 0


def correlation_z(a: Tensor, b: Tensor) -> float:
    """Give the correlation of two masks in standard errors."""
    return float(torch.corrcoef(torch.stack([a, b]).double())[0, 1]) * math.sqrt(len(a))


def largest_autocorrelation_z(mask: Tensor) -> float:
    """Of a vector, at the shortest distances and at those of the words, lanes and tiles it is made of."""
    return max(abs(correlation_z(mask[:-lag], mask[lag:])) for lag in (*range(1, 9), 63, 64, 65, 128, 192, 256))


# The mask


@pytest.mark.parametrize("p", [0.001, 0.1, 0.3, 0.5, 0.6, 0.9, 0.999])
def test_elements_are_kept_at_the_right_rate(p: float) -> None:
    size = 1 << 20
    for key in range(3):
        count = int(kept(p, key, size).sum())
        keep = round((1 - p) * 65536) / 65536
        assert stats.chisquare([count, size - count], [size * keep, size * (1 - keep)]).pvalue > 1e-4


@pytest.mark.parametrize("p", [0.2, 0.5])
def test_eight_neighbours_are_kept_like_eight_coins(p: float) -> None:
    patterns = (kept(p, 3, 200_000, 8) * (1 << torch.arange(8))).sum(1)
    ones = torch.tensor([bin(pattern).count("1") for pattern in range(256)])
    keep = round((1 - p) * 65536) / 65536
    expected = 200_000 * keep**ones * (1 - keep) ** (8 - ones)
    assert stats.chisquare(torch.bincount(patterns, minlength=256).numpy(), expected.double().numpy()).pvalue > 1e-4


@pytest.mark.parametrize("p", [0.2, 0.5, 0.9])
def test_positions_are_independent(p: float) -> None:
    mask = kept(p, 11, 1 << 20)
    assert largest_autocorrelation_z(mask) < 4.5
    lanes = mask.view(-1, 4, 64)
    for lane in range(4):
        assert abs(float((lanes[:, lane].double().mean() - (1 - p)) * 512 / math.sqrt(p * (1 - p)))) < 4.5
        for other in range(lane):
            assert abs(correlation_z(lanes[:, lane].flatten(), lanes[:, other].flatten())) < 4.5


def test_the_check_of_independence_finds_what_is_not() -> None:
    fair = kept(0.5, 11, 1 << 20)
    assert largest_autocorrelation_z(fair.view(-1, 2)[:, :1].expand(-1, 2).flatten()) > 100  # pairs share a draw
    assert largest_autocorrelation_z(fair.view(-1, 4, 64)[:, :1].expand(-1, 4, -1).flatten()) > 100  # lanes do
    rarely = kept(0.98, 12, 1 << 20)  # one element in fifty repeats the one before
    assert largest_autocorrelation_z(torch.where(rarely, fair.roll(1), fair)) > 10


@pytest.mark.parametrize("width", [16, 100, 256])
def test_rows_columns_and_keys_are_independent(width: int) -> None:
    mask = kept(0.5, 5, 40_000, width)
    rates = mask.double().mean(0)  # of every column: no position is favoured
    assert float((rates - 0.5).abs().max()) * 2 * math.sqrt(40_000) < 5
    assert abs(correlation_z(mask[1:].flatten(), mask[:-1].flatten())) < 4.5
    for other in (4, 6, 5 + 2**32, 5 + 2**63):
        assert abs(correlation_z(mask.flatten(), kept(0.5, other, 40_000, width).flatten())) < 4.5


def test_the_mask_is_the_one_of_the_contract() -> None:
    key, keep, size = 2**64 - 3, 20_000, 700
    mask = kept(1 - keep / 65536, key, size)
    for i in range(size):
        tile, lane, place = i // 256, i % 256 // 64, i % 64
        word = fold(key, tile * 64 + place) & (2**64 - 1)
        assert bool(mask[i]) == ((word >> 16 * lane) % 65536 < keep)


@settings(deadline=None)
@given(shape=shapes, p=probabilities, key=keys)
@example(shape=(), p=0.5, key=0)
@example(shape=(256,), p=0.5, key=0)
@example(shape=(9, 30_000), p=0.5, key=2**64 - 1)  # more than one piece of the reference's
def test_native_is_the_reference_bit_for_bit(shape: tuple[int, ...], p: float, key: int) -> None:
    x = torch.randn(shape)
    by_reference = torch.empty_like(x)
    reference.dropout(x.view(-1), max(1, round((1 - p) * 65536)), key, by_reference.view(-1))
    assert torch.equal(dropout(x, p, key=key), x if p == 0 else by_reference)


@pytest.mark.usefixtures("either_backend")
def test_infinities_and_nan_are_dropped_like_numbers() -> None:
    x = torch.tensor([math.inf, -math.inf, math.nan, -1.0]).repeat(100)
    out, mask = dropout(x, 0.5, key=1), kept(0.5, 1, 400)
    torch.testing.assert_close(out[mask], x[mask] * 2, rtol=0, atol=0, equal_nan=True)
    assert out[~mask].view(torch.int32).count_nonzero() == 0  # plain zeros


@pytest.mark.usefixtures("threads")
def test_the_result_does_not_depend_on_threads() -> None:
    x = torch.randn(1_200_037)
    results = []
    for count in (1, 2, 4):
        torch.set_num_threads(count)
        results.append(dropout(x, 0.4, key=9))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])
    by_reference = torch.empty_like(x)
    reference.dropout(x, round(0.6 * 65536), 9, by_reference)
    assert torch.equal(results[0], by_reference)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_other_dtypes_have_the_same_mask(dtype: torch.dtype) -> None:
    x = torch.full((50, 33), 3.0, dtype=dtype)
    out = dropout(x, 0.5, key=4)
    assert out.dtype == dtype
    assert torch.equal(out, torch.where(kept(0.5, 4, 50, 33), 2 * x, 0))


@pytest.mark.usefixtures("either_backend")
def test_layouts_and_empty_inputs() -> None:
    x = torch.randn(30, 40)
    assert torch.equal(dropout(x.T, 0.5, key=1), dropout(x.T.contiguous(), 0.5, key=1))
    assert torch.equal(dropout(x[:, ::3], 0.5, key=1), dropout(x[:, ::3].contiguous(), 0.5, key=1))
    assert torch.equal(dropout(x[3:], 0.5, key=1), dropout(x[3:].clone(), 0.5, key=1))
    assert dropout(x[:0], 0.5, key=1).shape == (0, 40)
    before = x.clone()
    assert dropout(x, 0.5, key=1).data_ptr() != x.data_ptr()
    assert torch.equal(x, before)


# Its expectation and its gradient


@pytest.mark.parametrize("p", [0.1, 0.5, 0.77777])
def test_the_mean_is_the_input(p: float) -> None:
    x, repeats = torch.linspace(-2, 2, 1000), 2000
    mean = torch.stack([dropout(x, p, key=key) for key in range(repeats)]).double().mean(0)
    z = (mean - x) / (x.abs() * math.sqrt(p / (1 - p) / repeats))
    assert stats.kstest(z.numpy(), "norm").pvalue > 1e-3


@pytest.mark.usefixtures("either_backend")
def test_almost_all_dropped_is_still_right_on_average() -> None:
    out = dropout(torch.ones(1 << 22), 1 - 2.0**-53, key=1)
    assert out.unique().tolist() == [0.0, 65536.0]
    assert 0.5 < float(out.mean()) < 1.5  # 64 elements are expected, ± 8
    assert torch.equal(dropout(torch.ones(1000), 1e-9, key=1), torch.ones(1000))


@pytest.mark.usefixtures("either_backend")
def test_the_gradient_has_the_mask_of_the_forward_pass() -> None:
    x = torch.randn(300, 70, requires_grad=True)
    upstream = torch.randn(70, 300).T
    for key in (None, 7):
        out = dropout(x, 0.3, key=key)
        assert out.grad_fn is not None
        assert out.grad_fn.saved_tensors == ()
        (grad,) = torch.autograd.grad(out, x, upstream)
        mask = out != 0
        assert torch.equal(grad, torch.where(mask, upstream * (65536 / round(0.7 * 65536)), 0))
    dropout(x, 0.3, key=7).sum().backward()  # an upstream gradient of stride 0
    assert x.grad is not None
    assert torch.equal(x.grad != 0, mask)
    assert not dropout(x.detach(), 0.3).requires_grad


def test_gradcheck() -> None:
    x = torch.randn(7, 50, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda h: dropout(h, 0.6, key=2), (x,))


# Where the key comes from


def test_the_seed_of_torch_fixes_the_mask_whatever_the_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    x, results, states = torch.randn(100, 30), [], []
    for native in (MODULE.native, MODULE.native, None):
        monkeypatch.setattr(MODULE, "native", native)
        torch.manual_seed(3)
        results.append((dropout(x, 0.5), dropout(x, 0.5)))
        states.append(torch.get_rng_state())
    for result, state in zip(results[1:], states[1:], strict=True):
        assert torch.equal(result[0], results[0][0])
        assert torch.equal(result[1], results[0][1])
        assert torch.equal(state, states[0])
    assert not torch.equal(*results[0])
    torch.manual_seed(4)
    assert not torch.equal(dropout(x, 0.5), results[0][0])


def test_nothing_to_drop_is_the_input_itself() -> None:
    x, before = torch.randn(5), torch.get_rng_state()
    assert dropout(x, 0) is x
    assert torch.equal(torch.get_rng_state(), before)


# The module


def test_the_module_drops_in_training_alone() -> None:
    module, x = nn.Dropout(0.4), torch.ones(1000, 20)
    torch.manual_seed(0)
    out = module(x)
    torch.manual_seed(0)
    assert torch.equal(out, dropout(x, 0.4))
    assert module.eval()(x) is x
    assert repr(module) == "Dropout(p=0.4)"
    assert module.state_dict() == {}
    module.train().p = 0.0
    assert module(x) is x


def test_models_use_it() -> None:
    assert type(nn.GCN(5, 8, 3, dropout=0.3).dropout) is nn.Dropout


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_has_the_mask_of_the_cpu() -> None:
    x = torch.randn(123, 45)
    assert torch.equal(dropout(x.cuda(), 0.3, key=8).cpu(), dropout(x, 0.3, key=8))
    assert nn.Dropout(0.5)(x.cuda()).is_cuda


# Refusals


@pytest.mark.usefixtures("either_backend")
def test_wrong_arguments_get_a_sentence() -> None:
    x = torch.randn(3)
    for p in (1.0, -0.1, 2, math.nan):
        with pytest.raises(ValueError, match=f"p is {p}; it must be at least 0 and less than 1"):
            dropout(x, p)
        with pytest.raises(ValueError, match=f"p={p} has to be at least 0 and less than 1"):
            nn.Dropout(p)
    for key in (-1, 2**64):
        with pytest.raises(ValueError, match=rf"key is {key}; it must lie in \[0, 2\*\*64\)"):
            dropout(x, 0.5, key=key)
    with pytest.raises(TypeError, match="integer"):
        dropout(x, 0.5, key=1.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="p must be a number; got str"):
        dropout(x, "0.5")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="x must be of a floating dtype; got int64"):
        dropout(x.long(), 0.5)
    with pytest.raises(TypeError, match="x must be a torch tensor; got list"):
        dropout([1.0], 0.5)  # type: ignore[arg-type]
