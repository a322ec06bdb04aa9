import re
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from compare_targets import make_cell, point
from hypothesis import given
from hypothesis import strategies as st

from gnnscale.compare.results import (
    COLUMNS,
    NEWER,
    SUMMARY_COLUMNS,
    cell_frame,
    concatenate,
    read_results,
    summarise,
    write_results,
)
from gnnscale.compare.settings import BUDGET, MODEL, TRAINING
from gnnscale.compare.specification import read_specification

DOCUMENT = Path(__file__).parents[2] / "docs" / "compare.md"


def frame(sampler, seed, vals, tests, status="ok"):
    points = [
        {**point(seed, epoch), "val": val, "test": test, "train_seconds": 2.0 * epoch}
        for epoch, (val, test) in enumerate(zip(vals, tests, strict=True), start=1)
    ]
    return cell_frame(
        make_cell(sampler, seed), points, status=status, prepare_seconds=0.5 + seed, peak_memory_mb=100.0 + seed
    )


def test_columns_come_in_the_promised_order():
    assert list(COLUMNS)[:15] == [
        "dataset", "model", "sampler", "seed", "epoch", "train_seconds", "sample_seconds", "gather_seconds",
        "transfer_seconds", "history_seconds", "compute_seconds", "loss", "val", "test", "status",
    ]  # fmt: skip
    assert list(SUMMARY_COLUMNS)[:12] == [
        "dataset", "model", "sampler", "seeds", "test_mean", "test_std", "best_epoch", "seconds_per_epoch",
        "train_seconds", "prepare_seconds", "peak_memory_mb", "status",
    ]  # fmt: skip


def test_results_carry_their_own_documentation(tmp_path):
    rows = concatenate([frame("full", 0, [0.5], [0.4]), frame("gas", 0, [0.6], [0.5])])
    write_results(rows, tmp_path / "results.parquet")
    schema = pq.read_schema(tmp_path / "results.parquet")
    assert schema.names == list(COLUMNS)
    assert schema.field("val").metadata == {b"meaning": COLUMNS["val"].meaning.encode(), b"unit": b"fraction"}
    pd.testing.assert_frame_equal(read_results(tmp_path / "results.parquet"), rows)


def test_the_page_documents_every_column_in_the_same_words():
    text = DOCUMENT.read_text()
    for name, column in COLUMNS.items():
        assert f"| `{name}` | {column.meaning} | {column.unit} |" in text
    for name, meaning in SUMMARY_COLUMNS.items():
        assert f"| `{name}` | {meaning} |" in text


def test_the_summary_takes_the_test_value_at_the_first_best_validation_epoch():
    rows = concatenate(
        [
            frame("gas", 0, [0.1, 0.7, 0.7, 0.6], [0.2, 0.5, 0.9, 0.8]),
            frame("gas", 1, [0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.7]),
            frame("gas", 2, [0.9], [0.9], status="failed: it diverged"),
            frame("full", 0, [0.8, 0.9], [0.6, 0.6]),
        ]
    )
    gas, full = summarise(rows).to_dict("records")
    assert (gas["sampler"], gas["seeds"], gas["best_epoch"]) == ("gas", 2, 3.0)
    assert gas["test_mean"] == pytest.approx((0.5 + 0.7) / 2)
    assert gas["test_std"] == pytest.approx(0.2 / 2**0.5)
    assert gas["val_mean"] == pytest.approx((0.7 + 0.4) / 2)
    assert (gas["seconds_per_epoch"], gas["train_seconds"]) == (2.0, 8.0)
    assert (gas["prepare_seconds"], gas["peak_memory_mb"]) == (1.0, 101.0)
    assert gas["status"] == "1 of 3 runs failed; seed 2: it diverged"
    assert (full["status"], full["seeds"]) == ("ok", 1)
    assert pd.isna(full["test_std"])


@given(st.lists(st.integers(0, 5), min_size=1, max_size=8))
def test_a_later_epoch_has_to_be_strictly_better(vals):
    rows = frame("gas", 0, [val / 10 for val in vals], [0.0] * len(vals))
    (row,) = summarise(rows).to_dict("records")
    assert row["best_epoch"] == vals.index(max(vals)) + 1


def test_missing_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="there are no results at"):
        read_results(tmp_path / "none.parquet")
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="lacks the columns dataset"):
        read_results(tmp_path / "other.parquet")


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
