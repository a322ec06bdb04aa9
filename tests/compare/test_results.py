import re
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from compare_targets import make_cell, point

from gnnscale.compare.endings import OUTCOMES
from gnnscale.compare.figures import FIGURES
from gnnscale.compare.results import (
    COLUMNS,
    NEWER,
    cell_frame,
    concatenate,
    read_results,
    write_results,
    write_whole,
)
from gnnscale.compare.settings import BUDGET, MODEL, TRAINING
from gnnscale.compare.specification import read_specification
from gnnscale.compare.statistics import PAIRED_COLUMNS
from gnnscale.compare.summary import SUMMARY_COLUMNS

DOCUMENT = Path(__file__).parents[2] / "docs" / "compare.md"
RESULTS_DOCUMENT = DOCUMENT.with_name("results.md")


def frame(sampler, seed, vals, tests, status="ok"):
    points = [
        {**point(seed, epoch), "val": val, "test": test, "train_seconds": 2.0 * epoch}
        for epoch, (val, test) in enumerate(zip(vals, tests, strict=True), start=1)
    ]
    return cell_frame(
        make_cell(sampler, seed),
        points,
        status=status,
        outcome=status,
        prepare_seconds=0.5 + seed,
        peak_memory_mb=100.0 + seed,
    )  # fmt: skip


def test_columns_come_in_the_promised_order():
    assert list(COLUMNS)[:15] == [
        "dataset", "model", "sampler", "seed", "epoch", "train_seconds", "sample_seconds", "gather_seconds",
        "transfer_seconds", "history_seconds", "compute_seconds", "loss", "val", "test", "status",
    ]  # fmt: skip


def test_results_carry_their_own_documentation(tmp_path):
    rows = concatenate([frame("full", 0, [0.5], [0.4]), frame("gas", 0, [0.6], [0.5])])
    write_results(rows, tmp_path / "results.parquet")
    schema = pq.read_schema(tmp_path / "results.parquet")
    assert schema.names == list(COLUMNS)
    assert schema.field("val").metadata == {b"meaning": COLUMNS["val"].meaning.encode(), b"unit": b"fraction"}
    pd.testing.assert_frame_equal(read_results(tmp_path / "results.parquet"), rows)


def test_the_page_documents_every_column_in_the_same_words():
    text = RESULTS_DOCUMENT.read_text()
    for name, column in COLUMNS.items():
        assert f"| `{name}` | {column.meaning} | {column.unit} |" in text
    for columns in (SUMMARY_COLUMNS, PAIRED_COLUMNS, OUTCOMES):
        for name, meaning in columns.items():
            assert f"| `{name}` | {meaning} |" in text
    for name in FIGURES:
        assert f"| `{name}` |" in text


def test_a_folder_is_read_whole_or_as_far_as_it_came(tmp_path):
    frames = [frame("full", 0, [0.5], [0.4]), frame("gas", 0, [0.6], [0.5])]
    with pytest.raises(FileNotFoundError, match="there are no results at"):
        read_results(tmp_path)
    for i, rows in enumerate(frames):
        write_results(rows, tmp_path / "cells" / f"{i}.parquet")
    (tmp_path / "cells" / ".2-half.parquet").write_bytes(b"half a file")
    assert read_results(tmp_path)["sampler"].tolist() == ["full", "gas"]
    write_results(frames[1], tmp_path / "results.parquet")
    assert read_results(tmp_path)["sampler"].tolist() == ["gas"]
    assert read_results(tmp_path / "cells" / "0.parquet")["sampler"].tolist() == ["full"]


def test_a_file_whose_writing_fails_leaves_the_old_one_and_no_other(tmp_path):
    def fail(path):
        path.write_text("half")
        raise OSError("no space left")

    (tmp_path / "a.csv").write_text("old")
    with pytest.raises(OSError, match="no space"):
        write_whole(tmp_path / "a.csv", fail)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.csv", "old")]


def test_missing_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="there are no results at"):
        read_results(tmp_path / "none.parquet")
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="lacks the columns dataset"):
        read_results(tmp_path / "other.parquet")
    specification = tmp_path / "trial.toml"
    specification.write_text('datasets = ["cora"]')
    with pytest.raises(ValueError, match=r"cannot be read as parquet .*; give a folder that `gnnscale compare` left"):
        read_results(specification)


def test_files_of_earlier_versions_are_read_with_empty_values(tmp_path):
    rows = concatenate([frame("full", 0, [0.5], [0.4])])
    rows.drop(columns=list(NEWER)).to_parquet(tmp_path / "old.parquet")
    old = read_results(tmp_path / "old.parquet")
    assert set(old) == set(COLUMNS)
    assert old[list(NEWER)].isna().all(axis=None)
    write_results(concatenate([old, rows]), tmp_path / "both.parquet")
    assert read_results(tmp_path / "both.parquet")["outcome"].isna().tolist() == [True, False]


def test_the_page_documents_every_setting_in_the_same_words():
    text = DOCUMENT.read_text()
    for name, setting in {**TRAINING, **MODEL, **BUDGET}.items():
        default = "" if setting.default is None else setting.default
        row = f"| `{name}` | {setting.meaning} | {setting.allowed} | {default} |"
        assert row in text or name == "epochs"
    assert f"`epochs` (default {TRAINING['epochs'].default})" in text


def test_the_specification_on_the_page_is_valid(tmp_path):
    example, cases = re.findall(r"```toml\n(.*?)```", DOCUMENT.read_text(), flags=re.DOTALL)
    (tmp_path / "trial.toml").write_text(example + cases)
    specification = read_specification(tmp_path / "trial.toml", {})
    assert [len(combination.seeds) for combination in specification.combinations] == [3] * 4 + [5] * 4
    assert [sampler.label for sampler in specification.samplers] == [
        "full",
        "neighbor",
        "neighbor(fanouts=[5, 5])",
        "gas",
    ]
