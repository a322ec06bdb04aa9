"""Results that are looked at while a comparison goes on, and files that hold something else."""

from __future__ import annotations

import os

import pandas as pd
import pytest
from compare_targets import Recorder, learn, make_cell
from typer.testing import CliRunner

from gnnscale.cli import app
from gnnscale.compare.outputs import write_outcome
from gnnscale.compare.results import read_results, write_results
from gnnscale.compare.runner import run_cells
from gnnscale.compare.specification import SpecificationError, read_specification


def test_a_folder_that_was_drawn_and_went_on_shows_what_is_new(tmp_path):
    first = run_cells([make_cell("full")], tmp_path, Recorder(), target=learn)
    write_outcome(first, tmp_path, formats=["png"])
    old = (tmp_path / "results.parquet").stat().st_mtime
    # Another seed, and the runner is killed before the end of the comparison.
    run_cells([make_cell("full"), make_cell("full", seed=1)], tmp_path, Recorder(), target=learn)
    for file in (tmp_path / "cells").glob("*seed1*.parquet"):
        os.utime(file, (old + 5, old + 5))
    assert set(read_results(tmp_path)["seed"]) == {0, 1}
    done = CliRunner().invoke(app, ["plot", str(tmp_path), "--format", "pdf"])
    assert done.exit_code == 0, done.output
    assert set(read_results(tmp_path)["seed"]) == {0, 1}
    # No figure of before stands beside the new ones.
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("settings", None, "empty values in the column settings"),
        ("settings", "zz", "no JSON in the column settings"),
        ("machine", "zz", "no JSON in the column machine"),
        ("sampler", None, "empty values in the column sampler"),
    ],
)
def test_a_file_with_something_else_is_told(tmp_path, column, value, said):
    rows = run_cells([make_cell("full")], tmp_path, Recorder(), target=learn)
    path = tmp_path / "odd.parquet"
    write_results(rows.assign(**{column: value}), path)
    with pytest.raises(ValueError, match=f"odd.parquet has {said}"):
        read_results(path)
    pd.DataFrame(rows.assign(started="monday", staleness_histogram=None)).to_parquet(path)
    with pytest.raises(ValueError, match=r"odd\.parquet has a column of another type"):
        read_results(path)


def test_slips_in_a_file_are_told_with_their_line(tmp_path):
    path = tmp_path / "trial.toml"
    path.write_text('datasets = ["synthetic"]\nsampler = ["full"]\n[sampler.gas]\nnum_parts = 3\n')
    with pytest.raises(SpecificationError, match=r"trial.toml:3: .*sampler has a value in line 2.*is samplers meant"):
        read_specification(path, {})
    path.write_text('datasets = ["synthetic"]\nseeds = 1000000000000\n')
    with pytest.raises(SpecificationError, match=r"trial\.toml:2: seeds is 1000000000000; .* at most 10,000"):
        read_specification(path, {})
