"""The summary, compared with what a loop over the runs gives."""

import numpy as np
import pandas as pd
import pytest
from frames import one_run, results_of
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnscale.compare.summary import SUMMARY_COLUMNS, at_best_epochs, summarise, times_to_target


def test_the_first_columns_come_in_the_promised_order():
    assert list(SUMMARY_COLUMNS)[:12] == [
        "dataset", "model", "sampler", "seeds", "test_mean", "test_std", "best_epoch", "seconds_per_epoch",
        "train_seconds", "prepare_seconds", "peak_memory_mb", "status",
    ]  # fmt: skip


def test_the_summary_takes_the_test_value_at_the_first_best_validation_epoch():
    rows = results_of(
        one_run("gas", 0, [0.2, 0.5, 0.9, 0.8], vals=[0.1, 0.7, 0.7, 0.6], speed=2.0),
        one_run("gas", 1, [0.1, 0.2, 0.3, 0.7], vals=[0.1, 0.2, 0.3, 0.4], speed=4.0),
        one_run("gas", 2, [0.9], status="failed: it diverged", outcome="diverged"),
        one_run("full", 0, [0.6, 0.6], vals=[0.8, 0.9]),
    )
    gas, full = summarise(rows).to_dict("records")
    assert (gas["sampler"], gas["seeds"], gas["runs"], gas["best_epoch"]) == ("gas", 2, 3, 3.0)
    assert gas["test_mean"] == pytest.approx((0.5 + 0.7) / 2)
    assert gas["test_std"] == pytest.approx(0.2 / 2**0.5)
    assert gas["test_error"] == pytest.approx(0.1)
    assert gas["val_mean"] == pytest.approx((0.7 + 0.4) / 2)
    assert (gas["seconds_per_epoch"], gas["train_seconds"]) == (3.0, 12.0)
    assert (gas["prepare_seconds"], gas["peak_memory_mb"]) == (0.5, 101.0)
    assert gas["sampling_share"] == pytest.approx(0.3)
    assert gas["history_seconds_per_epoch"] == pytest.approx(0.1 * 3)
    assert gas["wait_seconds_per_epoch"] == pytest.approx(0.4 * 3)
    assert (gas["steps_per_epoch"], gas["evaluation_seconds"]) == (4.0, 1.0)
    assert gas["edges_per_second"] == pytest.approx((100 / 2 + 100 / 4) / 2)
    assert gas["status"] == "1 of 3 runs failed; seed 2: it diverged"
    assert (gas["diverged"], gas["timeout"]) == (1, 0)
    assert (full["status"], full["seeds"]) == ("ok", 1)
    assert pd.isna(full["test_std"])
    assert pd.isna(full["test_error"])


def test_each_reason_of_a_failure_is_named_once_with_its_seeds():
    rows = results_of(
        one_run("gas", 0),
        *(one_run("gas", seed, (), status="failed: no memory", outcome="out_of_memory") for seed in (3, 1)),
        one_run("gas", 2, (), status="killed by signal 9", outcome="crashed"),
    )
    (gas,) = summarise(rows).to_dict("records")
    assert gas["status"] == "3 of 4 runs failed; seeds 1, 3: no memory; seed 2: killed by signal 9"
    assert [gas[name] for name in ("out_of_memory", "crashed", "raised")] == [2, 1, 0]


def test_all_runs_failed():
    (gas,) = summarise(results_of(one_run("gas", 0, (), status="failed: no", outcome="raised"))).to_dict("records")
    assert (gas["seeds"], gas["runs"], gas["raised"]) == (0, 1, 1)
    assert np.isnan(gas["test_mean"])
    assert np.isnan(gas["seconds_per_epoch"])


def test_no_results_make_an_empty_summary():
    empty = summarise(one_run("gas", 0).head(0))
    assert empty.empty
    assert list(empty) == list(SUMMARY_COLUMNS)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=8))
def test_a_later_epoch_has_to_be_strictly_better(vals):
    rows = one_run("gas", 0, [0.0] * len(vals), vals=[val / 10 for val in vals])
    assert at_best_epochs(rows)["epoch"].tolist() == [vals.index(max(vals)) + 1]


def test_a_run_without_a_validation_metric_is_no_best_epoch():
    rows = results_of(one_run("gas", 0, [0.5], vals=[np.nan]), one_run("gas", 1, [0.5, 0.7], vals=[0.1, np.nan]))
    assert at_best_epochs(rows)[["seed", "test", "epochs"]].values.tolist() == [[1, 0.5, 2]]


def test_time_to_target_begins_with_preparation_where_it_is_counted():
    rows = results_of(one_run("gas", 0, [0.1, 0.5, 0.4]), one_run("gas", 1, [0.1, 0.2, 0.3]))
    assert times_to_target(rows, 0.5)["seconds"].tolist()[0] == 2.0
    assert times_to_target(rows, 0.5)["seconds"].isna().tolist() == [False, True]
    assert times_to_target(rows, 0.3, count_preparation=True)["seconds"].tolist() == [2.5, 3.5]
    assert times_to_target(rows).empty


@pytest.mark.parametrize(
    ("reached", "expected"),
    [([1, 1, 3], 1.0), ([1, 3, None], 3.0), ([1, None, None], None), ([1, None], None), ([1, 3], 2.0), ([None], None)],
)
def test_a_seed_that_never_reached_the_target_counts_as_longer_than_all_others(reached, expected):
    """A median over those that did alone would praise a sampler for the seeds that it lost."""
    rows = results_of(
        *(one_run("gas", seed, [0.9 if epoch == at else 0.1 for epoch in (1, 2, 3)]) for seed, at in enumerate(reached))
    )
    (row,) = summarise(rows, target=0.8).to_dict("records")
    assert row["target_reached"] == sum(at is not None for at in reached)
    assert row["target"] == 0.8
    assert not row["with_preparation"]
    assert row["time_to_target"] == expected if expected else np.isnan(row["time_to_target"])


def test_the_target_is_the_runs_own_setting_where_none_is_given():
    rows = results_of(
        one_run("gas", 0, training={"target": 0.6}), one_run("full", 0, training={"target": None}),
        one_run("lmc", 0, training={"target": 0.5}), one_run("lmc", 1, training={"target": 0.6}),
    )  # fmt: skip
    gas, full, lmc = summarise(rows).to_dict("records")
    assert (gas["target"], gas["time_to_target"]) == (0.6, 2.0)
    assert pd.isna(full["target_reached"])
    assert pd.isna(lmc["target"])
    assert lmc["target_reached"] == 2


_SOME = results_of(
    *(one_run(sampler, seed, [(seed + i) % 3 / 3, 0.4, 0.1 * seed], speed=1.0 + i, dataset=dataset,
              staleness=float(i + seed))
      for dataset in ("a", "b") for i, sampler in enumerate(("full", "gas")) for seed in range(3)),
    one_run("gas", 3, (), status="failed: no", outcome="raised", dataset="a"),
)  # fmt: skip


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(len(_SOME))))
def test_the_order_of_rows_does_not_matter(order):
    keys = ["dataset", "model", "sampler"]
    expected = summarise(_SOME, target=0.4).sort_values(keys, ignore_index=True)
    found = summarise(_SOME.iloc[list(order)], target=0.4).sort_values(keys, ignore_index=True)
    pd.testing.assert_frame_equal(found, expected, rtol=1e-9)
