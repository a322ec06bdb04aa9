"""Where the kernels run: on a GPU, and on the host."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import pytest
import torch

from gnnscale.ops import _backend, cuda_reason
from tests.cuda import host_build, pretended


def pytest_configure() -> None:
    if not torch.cuda.is_available() and not host_build.missing():
        pretended.library()  # before any test has autograd's engine started


@pytest.fixture(scope="session")
def host_kernels() -> ModuleType:
    if missing := host_build.missing():
        pytest.skip(f"the kernels cannot be built for the host without {missing}")
    return host_build.built()


@pytest.fixture(params=["host", "pretended", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """A device whose tensors gnnscale's kernels work on."""
    torch.manual_seed(0)
    if request.param != "host":
        with gpu_of(request) as found:
            yield found
        return
    monkeypatch.setattr(_backend, "emulated", request.getfixturevalue("host_kernels"))
    yield torch.device("cpu")


@pytest.fixture(params=["pretended", pytest.param("cuda", marks=pytest.mark.cuda)])
def gpu(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """A GPU, or one that is not there."""
    torch.manual_seed(0)
    with gpu_of(request) as found:
        yield found


@contextmanager
def gpu_of(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    if request.param == "pretended":
        with pretended.gpu(request.getfixturevalue("host_kernels")):
            yield pretended.CUDA
        return
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    assert cuda_reason() == ""
    yield torch.device("cuda", torch.cuda.current_device())
