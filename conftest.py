"""What all tests share, doctests too: the same random numbers in each, and no file in the user's cache folder."""

import hypothesis
import pytest
import torch

# On a busy machine any example may take long.
hypothesis.settings.register_profile("gnnscale", deadline=None)
hypothesis.settings.load_profile("gnnscale")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GNNSCALE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
