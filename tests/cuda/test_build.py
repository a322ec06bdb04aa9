"""The module as it was built, which loads without a GPU, and says that there is none."""

import importlib
import importlib.util
import os
import shutil
from pathlib import Path

import pytest
import torch


def is_compiler_there() -> bool:
    """As setup.py looks for it."""
    return bool(os.environ.get("CUDACXX") or shutil.which("nvcc") or Path("/usr/local/cuda/bin/nvcc").exists())


def test_the_kernels_load_and_say_what_is_missing(host_kernels) -> None:
    if importlib.util.find_spec("gnnscale._cuda") is None:
        assert not is_compiler_there(), "there is nvcc, and the CUDA kernels were not built; `make setup` tells why"
        pytest.skip("the CUDA kernels were not built, as there is no nvcc")
    module = importlib.import_module("gnnscale._cuda")
    assert (module.obstacle() == "") == torch.cuda.is_available()
    # Both are made of the same sources.
    assert set(dir(host_kernels)) - {"__file__", "__cached__"} <= set(dir(module))
