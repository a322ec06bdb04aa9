"""What is compiled for each vector width, native beside the reference; test_processors.py runs it."""

import sys

import torch

import gnnscale as gs
from gnnscale import ops
from tests.ops.graphs import random_csc


def both(module, work):
    """What the native operation gives, and what the reference does."""
    module = sys.modules[f"gnnscale.ops.{module}"]
    native = module.native
    assert native is not None
    found = work()
    module.native = None
    try:
        return found, work()
    finally:
        module.native = native


def check(module, work, tolerance=0.0):
    for ours, wanted in zip(*both(module, work), strict=True):
        torch.testing.assert_close(ours, wanted, rtol=tolerance, atol=tolerance)


def product(indptr, indices, weight, x):
    weight, x = weight.clone().requires_grad_(), x.clone().requires_grad_()
    out = ops.spmm(indptr, indices, weight, x, transposed=ops.transpose_csr(indptr, indices, len(x)))
    out.float().square().sum().backward()
    return out.detach(), x.grad, weight.grad


def dropped(x):
    torch.manual_seed(5)
    return (gs.nn.Dropout(0.4)(x),)


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    indptr, indices = random_csc(300, 4000)
    indices, weight = indices.int(), torch.rand(4000)
    for width in (1, 7, 16, 64, 200):
        x = torch.randn(300, width)
        check("sparse", lambda x=x: product(indptr, indices, weight, x), 1e-3)
        check("sparse", lambda x=x: product(indptr, indices, weight, x.bfloat16()), 0.1)
        check("extremes", lambda x=x: (ops.extremes(indptr, indices, x, largest=True),))
        check("dropout", lambda x=x: dropped(x))
    check("sampling", lambda: ops.sample_labor(indptr, indices, torch.arange(50), [5, 5], key=3)[:1])
    rows, ids = torch.randn(100, 333), torch.randperm(500)[:100]
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        store = gs.HistoryStore(500, dtype=str(dtype).removeprefix("torch."))
        store.push(0, ids, rows)
        assert torch.equal(store.pull(0, ids).wait(), rows.to(dtype).float())
        store.close()
    print("all alike")


if __name__ == "__main__":
    main()
