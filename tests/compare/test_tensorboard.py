import sys

import pytest
from compare_targets import Recorder, learn, learn_or_fail, make_cell
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

from gnnscale.compare.display import Several
from gnnscale.compare.runner import run_cells
from gnnscale.compare.tensorboard import TensorBoard


def read(folder):
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(folder))
    multiplexer.Reload()
    return multiplexer


def test_a_cell_is_a_run_with_its_curves_and_settings(tmp_path):
    cells = [make_cell("full"), make_cell("raises")]
    log = tmp_path / "log"
    rows = run_cells(cells, tmp_path, Several(Recorder(), TensorBoard(log)), target=learn_or_fail)
    found = read(log)
    assert set(found.Runs()) == {cell.file_name for cell in cells}
    run = cells[0].file_name
    started = rows["started"].iloc[0].timestamp()
    assert [event.step for event in found.Scalars(run, "val")] == [1, 2, 3]
    assert [event.value for event in found.Scalars(run, "test")] == pytest.approx([0.025, 0.05, 0.075])
    # The axis of relative time is the clock of training.
    assert [event.wall_time - started for event in found.Scalars(run, "loss")] == pytest.approx([1, 2, 3], abs=0.5)
    assert {"seconds an epoch/sample", "seconds an epoch/compute", "best/test"} <= set(found.Runs()[run]["scalars"])
    assert found.SummaryMetadata(run, "_hparams_/session_start_info").plugin_data.plugin_name == "hparams"
    assert len(found.Scalars(cells[1].file_name, "val")) == 1
    (status,) = found.Tensors(cells[1].file_name, "status/text_summary")
    assert b"fan-outs are odd" in status.tensor_proto.string_val[0]


def test_what_was_finished_earlier_is_written_once(tmp_path):
    cells = [make_cell()]
    run_cells(cells, tmp_path, Recorder(), target=learn)
    for _ in range(2):
        run_cells(cells, tmp_path, TensorBoard(tmp_path / "log"), target=learn)
    assert [event.step for event in read(tmp_path / "log").Scalars(cells[0].file_name, "val")] == [1, 2, 3]


def test_without_the_package_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ImportError, match=r"pip install 'gnnscale\[tensorboard\]'"):
        TensorBoard(tmp_path)
