import json
import os
import pty
import random
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from typer.testing import CliRunner

from gnnscale.cli import app
from gnnscale.compare.results import read_results
from gnnscale.compare.summary import SUMMARY_COLUMNS

ROOT = Path(__file__).parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"
# A graph on which a run takes a fraction of a second.
SMALL = "synthetic(num_nodes=400, num_edges=3000, num_classes=3, communities_per_class=2)"
PARTS = "full,neighbor,cluster(num_parts=8, batch_size=2),gas(num_parts=8, batch_size=2)"


def command(*arguments):
    return [sys.executable, "-m", "gnnscale", *map(str, arguments)]


def gnnscale(*arguments):
    """Run a command in this process, which has the heavy imports behind it."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def small(out, *arguments, samplers=PARTS, epochs=3):
    return ("compare", "--dataset", SMALL, "--samplers", samplers, "--epochs", epochs, "--hidden", 8,
            "--out", out, *arguments)  # fmt: skip


def curves_of(out):
    """What has to be the same from run to run: everything but times, memory and the machine's record."""
    results = read_results(out / "results.parquet")
    differing = ["seconds", "memory", "started", "machine"]
    return results[[name for name in results if not any(word in name for word in differing)]]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A comparison of all samplers over two seeds, and what it printed."""
    out = tmp_path_factory.mktemp("finished")
    arguments = command(*small(out, "--seeds", 2))
    return out, subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def test_a_comparison_leaves_its_files_and_prints_plain_text(finished):
    out, run = finished
    assert (run.returncode, run.stderr) == (0, "")
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", run.stdout)
    assert len(re.findall(r"^\[\d/8\] synthetic gcn \w+ seed \d: test accuracy [\d.]+ %", run.stdout, re.M)) == 8
    results = read_results(out / "results.parquet")
    assert len(results) == 4 * 2 * 3
    assert set(results["status"]) == {"ok"}
    assert results["val"].between(0, 1).all()
    stages = ["sample_seconds", "gather_seconds", "transfer_seconds", "history_seconds", "compute_seconds"]
    assert (results[stages] >= 0).all(axis=None)
    assert (results.groupby(["sampler", "seed"])["train_seconds"].diff().dropna() > 0).all()
    summary = pd.read_csv(out / "summary.csv")
    assert list(summary) == list(SUMMARY_COLUMNS)
    assert list(summary["sampler"]) == ["full", "neighbor", "cluster", "gas"]
    assert set(summary["seeds"]) == {2}
    assert (summary["peak_memory_mb"] > 10).all()
    for name in ("accuracy_vs_time.png", "accuracy_vs_epoch.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    assert "neighbor" in (out / "report.html").read_text()


def test_a_second_run_finds_the_cells_and_draws_again(finished):
    out, _ = finished
    before = {file.name: file.stat().st_mtime_ns for file in (out / "cells").glob("*.parquet")}
    (out / "accuracy_vs_time.png").unlink()
    again = gnnscale(*small(out, "--seeds", 2))
    assert again.exit_code == 0
    assert "8 of 8 cells were finished earlier" in again.stdout
    assert {file.name: file.stat().st_mtime_ns for file in (out / "cells").glob("*.parquet")} == before
    assert (out / "accuracy_vs_time.png").exists()


def test_a_comparison_is_drawn_again_and_merged_without_running_anything(finished, tmp_path):
    out, _ = finished
    for name in ("plot", "merge"):
        where = [out] if name == "plot" else [out, out, "--out", tmp_path / "all"]
        run = gnnscale(name, *where, "--target", 0.01, "--count-preparation", "--format", "pdf")
        assert run.exit_code == 0, run.output
        assert (where[-1] / "time_to_target.pdf").read_bytes().startswith(b"%PDF")
        summary = pd.read_csv(where[-1] / "summary.csv")
        assert (summary["target_reached"] == 2).all()
        assert summary["with_preparation"].all()
    assert "merged 8 runs of 2 folders; 8 were there more than once." in run.stdout
    pd.testing.assert_frame_equal(read_results(tmp_path / "all"), read_results(out))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["plot", "nowhere"], "there are no results at 'nowhere'"),
        (["plot", "nowhere", "--target", "80"], "--target is 80; it must be a fraction above 0"),
        (["merge", "nowhere", "--out", "all", "--format", "pgn"], "--format has 'pgn': did you mean 'png'?"),
    ],
)
def test_bad_input_to_plot_and_merge_is_refused(arguments, sentence):
    run = gnnscale(*arguments)
    assert run.exit_code == 2
    assert sentence in run.output


def wait_for_cells(run, out, count):
    while len(list(out.glob("cells/[!.]*.parquet"))) < count:
        assert run.poll() is None, "the comparison ended before it could be stopped"
        time.sleep(0.005)


def start(*arguments):
    """A command in a process group of its own."""
    return subprocess.Popen(
        command(*arguments), cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
        # A shell's background jobs are told to ignore Ctrl-C, and so would this one where the tests run in one.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def kill_at_random(out, arguments, moments):
    """Start a comparison and kill it, once after each of these numbers of cells and a while."""
    for count in moments:
        run = start(*arguments)
        wait_for_cells(run, out, count)
        time.sleep(random.random() / 3)
        # Of the runner alone, or of its cells as well.
        random.choice([os.kill, os.killpg])(run.pid, signal.SIGKILL)
        run.communicate()


def test_killed_at_three_random_moments_and_resumed_it_comes_to_the_same_curves(finished, tmp_path):
    whole, _ = finished
    arguments = small(tmp_path, "--seeds", 2)
    kill_at_random(tmp_path, arguments, [1, 3, 5])
    assert not (tmp_path / "results.parquet").exists()
    resumed = gnnscale(*arguments)
    assert resumed.exit_code == 0
    assert re.search(r"^[5-8] of 8 cells were finished earlier", resumed.stdout, re.M)
    pd.testing.assert_frame_equal(curves_of(whole), curves_of(tmp_path))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not SHARED_DATA.exists(), reason="the example graphs are not beside the project")
def test_all_samplers_killed_at_three_random_moments_come_to_the_same_curves(tmp_path):
    def comparison(out):
        return ("compare", "--dataset", "cora,citeseer", "--data-dir", SHARED_DATA, "--seeds", 2, "--epochs", 3,
                "--hidden", 8, "--threads", 1, "--out", out)  # fmt: skip

    assert gnnscale(*comparison(tmp_path / "whole")).exit_code == 0
    kill_at_random(tmp_path / "killed", comparison(tmp_path / "killed"), sorted(random.sample(range(70), 3)))
    assert gnnscale(*comparison(tmp_path / "killed")).exit_code == 0
    pd.testing.assert_frame_equal(curves_of(tmp_path / "whole"), curves_of(tmp_path / "killed"))


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_it_cleanly(number, status, tmp_path):
    run = start(*small(tmp_path, "--seeds", 50, epochs=100, samplers="full"))
    wait_for_cells(run, tmp_path, 1)
    os.killpg(run.pid, number)
    out, error = run.communicate(timeout=30)
    assert run.returncode == status
    assert "Traceback" not in out + error
    assert f"kept in {tmp_path}" in error
    # What was running is no result, and what was finished is one already.
    assert set(read_results(tmp_path / "results.parquet")["outcome"]) == {"ok"}
    # Nothing of the group is left: neither the cell nor the server that started it.
    for _ in range(200):
        try:
            os.killpg(run.pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.05)
    else:
        pytest.fail("processes outlive the comparison")


def test_a_run_that_diverges_is_a_result(tmp_path):
    run = gnnscale(*small(tmp_path, samplers="full,neighbor(lr=1e30)"))
    assert run.exit_code == 1
    assert "1 of 1 runs failed" in run.stdout
    status = read_results(tmp_path / "results.parquet").groupby("sampler")["status"].first()
    assert status["full"] == "ok"
    assert re.match(r"diverged: the loss became (nan|inf) in epoch \d", status["neighbor"])


def test_flags_of_training_reach_the_cells(tmp_path):
    """Inductive training has histories of the training nodes, a tenth of all, and parts of these."""
    flags = ["--inductive", "--rest-weight-decay", "0.25"]
    run = gnnscale(*small(tmp_path, *flags, samplers="gas(num_parts=4)", epochs=1))
    assert run.exit_code == 0, run.output
    (settings,) = read_results(tmp_path / "results.parquet")["settings"].map(json.loads)
    assert (settings["training"]["inductive"], settings["training"]["rest_weight_decay"]) == (True, 0.25)
    refused = gnnscale(*small(tmp_path, *flags, samplers="gas(num_parts=300)"))
    assert refused.exit_code == 2
    assert "num_parts=300 is more than the graph's 40 nodes" in refused.output


@pytest.mark.parametrize(
    ("arguments", "sentences"),
    [
        (["--samplers", "neighbour"], ["unknown sampler 'neighbour': did you mean 'neighbor'?"]),
        (["--samplers", "neighbor(fanouts=[5])"], ["fanouts=[10, 10]"]),
        (["--samplers", "gas(num_parts=5000)", "--dataset", SMALL], ["num_parts=5000"]),
        (["--samplers", "gas(num_part=5)"], ["num_part"]),
        (["--dataset", "no/such.npz"], ["no/such.npz"]),
        (["--epochs", "0", "--lr", "nan"], ["epochs is 0", "lr is nan"]),
        (["--device", "cuda:7"], ["device is 'cuda:7'"]),
    ],
)
def test_bad_input_is_one_line_each_and_nothing_runs(arguments, sentences, tmp_path):
    arguments = arguments if "--dataset" in arguments else [*arguments, "--dataset", SMALL]
    run = gnnscale("compare", "--out", tmp_path, *arguments)
    assert (run.exit_code, run.stdout) == (2, "")
    lines = run.stderr.splitlines()
    assert len(lines) == len(sentences)
    for line, sentence in zip(lines, sentences, strict=True):
        assert line.startswith("error: ")
        assert sentence in line
    assert not list(tmp_path.glob("**/*.parquet"))


def test_at_a_terminal_it_shows_bars(tmp_path):
    leader, follower = pty.openpty()
    run = subprocess.Popen(
        command(*small(tmp_path, samplers="full")), cwd=ROOT, stdout=follower, stderr=follower,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"},
    )  # fmt: skip
    os.close(follower)
    shown = b""
    while True:
        select.select([leader], [], [])
        try:
            shown += os.read(leader, 65536)
        except OSError:  # the other end was closed
            break
    assert run.wait() == 0
    text = shown.decode()
    assert "all cells" in text
    assert "\x1b[" in text
    assert "accuracy_vs_time.png" in text


@pytest.mark.skipif(not SHARED_DATA.exists(), reason="the example graphs are not beside the project")
@pytest.mark.parametrize(("dataset", "metric"), [("cora", "accuracy"), ("tolokers", "roc_auc")])
def test_real_graphs(dataset, metric, tmp_path):
    run = gnnscale("compare", "--dataset", dataset, "--data-dir", SHARED_DATA, "--model", "gcn", "--samplers",
                   "full,gas", "--epochs", 2, "--hidden", 8, "--out", tmp_path)  # fmt: skip
    assert run.exit_code == 0, run.stderr
    assert set(read_results(tmp_path / "results.parquet")["metric"]) == {metric}


def test_list_names_everything_with_a_line():
    run = gnnscale("list")
    assert run.exit_code == 0
    for name in ("cora", "synthetic", "gcn", "sage", "full", "neighbor", "cluster", "gas"):
        assert re.search(rf"^  {name} +\w", run.stdout, re.M), name


def test_doctor_tells_versions_and_remedies():
    run = gnnscale("doctor")
    assert run.exit_code == 0
    for subject in ("gnnscale", "Python", "torch", "dgl", "numpy", "CPU", "GPU", "operations", "CUDA kernels"):
        assert re.search(rf"^{subject}: +\S", run.stdout, re.M), subject


def test_doctor_finds_what_is_broken(tmp_path):
    (tmp_path / "dgl.py").write_text("raise OSError('libdgl.so: no such file')")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    run = subprocess.run(command("doctor"), cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert re.search(r"^dgl: +cannot be imported: OSError: libdgl.so.*\n +-> pip install", run.stdout, re.M)


def test_doctor_tells_that_native_operations_have_one_thread(monkeypatch):
    monkeypatch.setattr("gnnscale.ops._backend.native", SimpleNamespace(has_threads=False))
    run = gnnscale("doctor")
    assert re.search(r"^operations: +native, each on one thread.*\n +-> install g\+\+", run.stdout, re.M)


def test_help_and_version_answer_without_the_heavy_imports():
    script = "import sys; from gnnscale.cli import app; app(sys.argv[1:], standalone_mode=False); "
    script += "print([name for name in ('torch', 'dgl', 'pandas', 'matplotlib') if name in sys.modules])"
    for arguments in (["--version"], ["--help"], ["compare", "--help"]):
        run = subprocess.run(
            [sys.executable, "-c", script, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stderr
        assert run.stdout.strip().endswith("[]")
    assert "Example: gnnscale compare --dataset cora" in " ".join(run.stdout.split())
    assert "(default: 0.01)" in run.stdout


BROKEN = """
class Late:
    def sample_blocks(self, g, seeds):
        raise KeyError("midway")
"""


def test_the_estimator_leaves_its_files_and_names_what_failed(tmp_path):
    (tmp_path / "late.py").write_text(BROKEN)
    samplers = f"full,neighbor(fanouts=[2, 2]),gas(num_parts=8, batch_size=2),{tmp_path}/late.py:Late"
    out = tmp_path / "out"
    run = gnnscale("estimator", "--dataset", SMALL, "--samplers", samplers, "--draws", 4, "--epochs", 5,
                   "--staleness", "0,3", "--hidden", 8, "--out", out)  # fmt: skip
    assert run.exit_code == 1
    assert "sampler Late failed: KeyError: 'midway'" in run.stderr
    table = pd.read_csv(out / "estimator.csv")
    assert set(table["sampler"]) == {"full", "neighbor", "gas"}
    assert sorted(table[table["sampler"] == "gas"]["staleness"].unique()) == [0, 3]
    assert (table[table["sampler"] == "full"]["error"] < 1e-5).all()
    for name in ("error_vs_cost.png", "error_vs_staleness.png"):
        assert (out / name).stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--draws", 1), "draws is 1; it must be a whole number from 2 up"),
        (("--staleness", "x"), "staleness is 'x'; it must be whole numbers from 0 up"),
        (("--staleness", "50", "--epochs", 2), "the model has 2 steps behind it; raise epochs"),
        (("--model", "gcn,sage"), "2 models are given; this command takes one"),
        (("--samplers", "neighbr"), "did you mean 'neighbor'?"),
    ],
)
def test_the_estimator_refuses_in_one_sentence(arguments, sentence):
    run = gnnscale("estimator", "--dataset", SMALL, *arguments)
    assert run.exit_code == 2
    assert sentence in run.stderr
    assert "Traceback" not in run.output


def test_an_output_folder_that_is_a_file_is_refused_before_any_work(tmp_path):
    (tmp_path / "file").write_text("")
    for words in (("estimator", "--dataset", SMALL, "--out", tmp_path / "file"), small(tmp_path / "file")):
        run = gnnscale(*words)
        assert run.exit_code == 2
        assert "which is a file; it must be the path of a folder" in run.stderr
