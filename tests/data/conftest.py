"""Every test has a cache folder of its own; the real graphs are used where they are there."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache") / "gnnscale"
    monkeypatch.setenv("GNNSCALE_CACHE", str(folder))
    return folder


@pytest.fixture
def offline(monkeypatch):
    """No network, whatever the machine has; returns the addresses that were tried."""
    tried = []

    def download(url, **_):
        tried.append(url)
        raise ConnectionError

    monkeypatch.setattr("dgl.data.utils.download", download)
    return tried


@pytest.fixture
def shared():
    if not SHARED.is_dir():
        pytest.skip("the folder with the real graphs is not there")
    return SHARED
