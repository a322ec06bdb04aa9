"""A training run that is really killed goes on as if nothing had happened, histories included."""

import gc
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import gnnscale as gs
from gnnscale._dgl import dgl
from gnnscale.ops import backend
from gnnscale.samplers import make_sampler

needs_native = pytest.mark.skipif(backend() != "native", reason="stores in files need the native operations")
CHOICES = {
    "gas": {"num_parts": 10, "refresh": False},
    "vrgcn": {"fanouts": [1, 1]},
    "lmc": {"num_parts": 10},
    "asgcn": {},
}


def train(name, checkpoint, *, epochs=8, history=None, hidden=8, on_point=None, **arguments):
    data = gs.load("synthetic", num_nodes=400, num_edges=4000)
    torch.manual_seed(0)
    model = gs.nn.GCN(data.num_features, hidden, data.num_classes, dropout=0.5)
    sampler = make_sampler(name, num_layers=2, num_nodes=400, **CHOICES[name])
    settings = {"batch_size": 2 if "num_parts" in CHOICES[name] else 100} | arguments
    return gs.train(
        model, data, sampler, epochs=epochs, checkpoint=checkpoint, history=history, on_point=on_point, **settings
    )


def numbers(points):
    """What does not depend on the clock."""
    return [(p.epoch, p.loss, p.val, p.test, str(p.staleness), p.staleness_histogram) for p in points]


def train_and_tell(name, checkpoint, file):
    """In a process of its own, which tells each epoch and waits a moment to be killed."""
    history = None
    if file:
        history = gs.HistoryStore.open(file) if Path(file).exists() else gs.HistoryStore(
            400, placement="file", path=file
        )  # fmt: skip
    torch.set_num_threads(1)

    def tell(point):
        print(json.dumps([point.epoch, history.step if history else 0]), flush=True)

    train(name, checkpoint, epochs=10_000, history=history, on_point=tell)


def kill_after(epochs, name, checkpoint, file=""):
    with subprocess.Popen(
        [sys.executable, __file__, name, str(checkpoint), str(file)], stdout=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout:
            if json.loads(line)[0] == epochs:
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    "name", ["gas", "asgcn", *(pytest.param(name, marks=pytest.mark.slow) for name in ("vrgcn", "lmc"))]
)
def test_a_killed_run_goes_on_with_the_same_curve(name, tmp_path):
    checkpoint = tmp_path / "run.pt"
    kill_after(3, name, checkpoint)
    done = len(torch.load(checkpoint, weights_only=True)["progress"]["points"])
    assert done >= 3
    kill_after(done + 2, name, checkpoint)  # and killed again
    done = len(torch.load(checkpoint, weights_only=True)["progress"]["points"])
    resumed = train(name, checkpoint, epochs=done + 3)
    assert numbers(resumed.points) == numbers(train(name, None, epochs=done + 3).points)
    times = [point.train_seconds for point in resumed.points]
    assert times == sorted(times)


def test_without_its_histories_the_curve_would_be_another(tmp_path):
    checkpoint = tmp_path / "run.pt"
    train("gas", checkpoint, epochs=4)
    content = torch.load(checkpoint, weights_only=True)
    content["state"]["rows"]["history"]["tables"][0]["rows"].zero_()
    torch.save(content, checkpoint)
    assert numbers(train("gas", checkpoint).points)[4:] != numbers(train("gas", None).points)[4:]


@needs_native
def test_a_killed_run_goes_on_with_the_histories_of_its_file(tmp_path):
    checkpoint, file = tmp_path / "run.pt", tmp_path / "run.history"
    kill_after(3, "gas", checkpoint, file)
    saved = torch.load(checkpoint, weights_only=True)
    assert saved["state"]["rows"] == {}
    history = gs.HistoryStore.open(file)
    assert history.step >= saved["state"]["steps"]["history"] > 0
    rows = history.pull(0, torch.arange(400)).wait()
    assert (rows != 0).any()
    done = len(saved["progress"]["points"])
    points = train("gas", checkpoint, epochs=done + 5, history=history).points
    assert len(points) == done + 5
    # The rows go on ageing: a run with histories of its own would start with steps of 0.
    assert max(point.staleness_max for point in points[done:]) <= history.step
    with pytest.raises(ValueError, match=r"belongs to a history file of step .* is at step 0; pass history="):
        fresh = gs.HistoryStore(400, placement="file", path=tmp_path / "other")
        train("gas", checkpoint, epochs=done + 6, history=fresh)


@needs_native
def test_the_gradients_of_lmc_are_in_a_file_of_their_own_and_opened_with_it(tmp_path):
    history = gs.HistoryStore(400, placement="file", path=tmp_path / "run.history")
    train("lmc", tmp_path / "run.pt", epochs=2, history=history)
    del history
    gc.collect()
    history = gs.HistoryStore.open(tmp_path / "run.history")
    assert len(train("lmc", tmp_path / "run.pt", epochs=3, history=history).points) == 3
    assert (tmp_path / "run.history.gradients").exists()


def test_a_sampler_of_others_goes_on_as_well(tmp_path):
    data = gs.load("synthetic", num_nodes=400, num_edges=4000)

    def points(epochs, checkpoint):
        torch.manual_seed(0)
        model = gs.nn.GCN(data.num_features, 8, data.num_classes)
        sampler = dgl.dataloading.MultiLayerFullNeighborSampler(2)  # its repr names an address
        return numbers(gs.train(model, data, sampler, epochs=epochs, batch_size=50, checkpoint=checkpoint).points)

    points(2, tmp_path / "run.pt")
    assert points(4, tmp_path / "run.pt") == points(4, None)


def test_a_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / "run.pt"
    train("gas", path, epochs=1)
    whole = bytearray(path.read_bytes())
    rows = torch.load(path, weights_only=True)["state"]["rows"]["history"]["tables"][0]["rows"]
    at = whole.find(rows.numpy().tobytes()[:64])
    assert at > 0
    whole[at + 5] ^= 1
    path.write_bytes(whole)
    with pytest.raises(ValueError, match="is no checkpoint of gnnscale, or damaged"):
        train("gas", path)


def test_a_finished_run_gives_its_points_again(tmp_path):
    seen = []
    points = train("gas", tmp_path / "run.pt").points
    again = train("gas", tmp_path / "run.pt", on_point=seen.append).points
    assert again == points == seen


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"lr": 0.5}, r"of a run with lr=0.01, and this one has lr=0.5; use the same settings"),
        ({"hidden": 9}, r"is of another model \(.*; use the same model"),
        ({"name": "vrgcn"}, r"of a run with sampler='GAS"),
    ],
)
def test_another_run_is_refused(tmp_path, change, sentence):
    train("gas", tmp_path / "run.pt", epochs=1)
    with pytest.raises(ValueError, match=sentence) as caught:
        train(**{"name": "gas", "checkpoint": tmp_path / "run.pt", "epochs": 2, **change})
    assert "\n" not in str(caught.value)


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "run.pt"
    train("gas", path, epochs=1)
    whole = path.read_bytes()
    for content in (b"", b"no checkpoint", whole[: len(whole) // 2], whole[:-1000]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is no checkpoint"):
            train("gas", path)
    torch.save({"weights": torch.ones(1)}, path)
    with pytest.raises(ValueError, match="is no checkpoint of this version"):
        train("gas", path)
    with pytest.raises(ValueError, match="is a folder; name a file"):
        train("gas", tmp_path)


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    train_and_tell(*sys.argv[1:4])
