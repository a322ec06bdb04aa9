"""The module as it was built, which loads without a GPU, and says that there is none."""

import importlib
import importlib.util

import pytest
import torch


def test_the_kernels_load_and_say_what_is_missing(host_kernels) -> None:
    if importlib.util.find_spec("gnnscale._cuda") is None:
        pytest.skip("the CUDA kernels were not built")
    module = importlib.import_module("gnnscale._cuda")
    assert (module.obstacle() == "") == torch.cuda.is_available()
    # Both are made of the same sources.
    assert set(dir(host_kernels)) - {"__file__", "__cached__"} <= set(dir(module))
