"""experiments/speed/cuda.py runs through, on a GPU that is pretended, at sizes where it takes no time."""

import importlib
import sys

import pytest
import torch

pytest.importorskip("dgl")

from tests.cuda import host_build, pretended

FOLDER = host_build.ROOT / "experiments" / "speed"


@pytest.fixture
def table(monkeypatch, tmp_path, host_kernels):
    """Gives the modules of the table; what they keep goes elsewhere."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setenv("GNNSCALE_CACHE", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    names = ("cuda", "cuda_samples", "cuda_epochs", "graphs")
    with pretended.gpu(host_kernels):
        yield [importlib.import_module(name) for name in names[:3]]
    for name in names:
        sys.modules.pop(name, None)


def test_every_line_is_printed(table, monkeypatch):
    cuda, samples, epochs = table
    threads = torch.get_num_threads()
    monkeypatch.setattr(samples, "NUM_WALKS", 200)
    drawn = list(samples.lines(cuda.power_law(300, 3000), 1, cuda.medians))
    torch.set_num_threads(threads)
    assert len(drawn) == 2 * len(samples.SAMPLERS) + 2
    monkeypatch.setattr(epochs, "STEPS", 1)
    monkeypatch.setattr(epochs, "HIDDEN", 4)
    monkeypatch.setitem(epochs.GRAPHS, "Reddit", (300, 3000, 5, 3, 0.6))
    some = {name: epochs.gs.samplers.SAMPLERS[name] for name in ("full", "neighbor", "saint-walk", "gas")}
    monkeypatch.setattr(epochs.gs.samplers, "SAMPLERS", some)
    trained = [*epochs.gas_lines(0.005, 1), epochs.memory_line(0.005), *epochs.sampler_lines("Reddit", 1.0)]
    assert all(len(line) == 4 for line in drawn + trained)
    # The full batch is drawn by the CPU alone.
    assert [line[0].split()[0] for line in trained[-7:]] == [
        "full",
        *2 * ["neighbor"],
        *2 * ["saint-walk"],
        *2 * ["gas"],
    ]
    assert all("s an epoch of" in line[1] for line in trained[-7:])
