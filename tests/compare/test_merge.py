import pandas as pd
import pytest
from frames import one_run, results_of
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnscale.compare.merge import identity, merge, merge_folders
from gnnscale.compare.results import write_results

LABELS = ["dataset", "model", "sampler"]
FIRST, SECOND = "2026-01-01", "2026-01-02"


def cells(results):
    """What there is, without order."""
    rows = results[[*LABELS, "seed", "epoch", "test", "status"]].fillna({"test": -1.0})
    return sorted(rows.itertuples(index=False, name=None), key=str)


def test_other_seeds_and_samplers_are_put_together():
    parts = [results_of(one_run("gas", 0), one_run("gas", 1)), results_of(one_run("gas", 2), one_run("full", 0))]
    merged = merge(parts)
    assert cells(merged) == cells(pd.concat(parts))
    assert list(merged) == list(parts[0])


@pytest.mark.parametrize("turned", [False, True])
def test_a_cell_is_taken_once_the_newest_of_those_that_are_ok(turned):
    old = one_run("gas", 0, [0.1], started=FIRST)
    new = one_run("gas", 0, [0.2, 0.2], started=SECOND)
    newest = one_run("gas", 0, (), started="2026-01-03", status="failed: no", outcome="raised")
    parts = [old, new, newest][:: -1 if turned else 1]
    assert cells(merge(parts)) == cells(new)
    assert cells(merge([newest, newest])) == cells(newest)


def test_of_two_that_do_not_tell_when_they_began_the_later_part_counts():
    assert merge([one_run("gas", 0, [0.1]), one_run("gas", 0, [0.2])])["test"].tolist() == [0.2]
    assert merge([one_run("gas", 0, [0.1], started=FIRST), one_run("gas", 0, [0.2])])["test"].tolist() == [0.1]


def test_what_is_not_the_same_gets_a_label_of_its_own():
    two = results_of(one_run("gas", 0), one_run("full", 0), one_run("lmc", 0, model="gat"))
    four = one_run("gas", 0, layers=4)
    merged = merge([two, four])
    # The model is named for all samplers, so that they stay together.
    assert set(merged[LABELS].itertuples(index=False, name=None)) == {
        ("toy", "gcn(layers=2)", "gas"), ("toy", "gcn(layers=2)", "full"), ("toy", "gcn(layers=4)", "gas"),
        ("toy", "gat", "lmc"),
    }  # fmt: skip


def test_training_and_arguments_are_told_apart_in_the_samplers_label():
    merged = merge([
        one_run("gas", 0), one_run("gas", 0, training={"lr": 0.1, "patience": 5}), one_run("full", 0),
        one_run("gas", 0, arguments={"num_parts": 8}), one_run("neighbor(fanouts=[5, 5])", 0, training={"lr": 1.0}),
        one_run("neighbor(fanouts=[5, 5])", 0),
    ])  # fmt: skip
    assert set(merged["sampler"]) == {
        "gas(lr=0.01)", "gas(lr=0.1, patience=5)", "full", "gas(lr=0.01, num_parts=8)",
        "neighbor(fanouts=[5, 5], lr=1.0)", "neighbor(fanouts=[5, 5], lr=0.01)",
    }  # fmt: skip
    assert merged.groupby(LABELS)["settings"].nunique().eq(1).all()


def test_the_same_settings_have_one_label():
    merged = merge([
        results_of(one_run("gas(num_parts=8)", 0, arguments={"num_parts": 8})),
        results_of(one_run("gas", 1, arguments={"num_parts": 8})),
    ])  # fmt: skip
    assert set(merged["sampler"]) == {"gas"}


def test_data_that_changed_under_its_name_is_refused():
    changed = one_run("gas", 1)
    changed["settings"] = changed["settings"].str.replace('"data": "toy"', '"data": "other"')
    with pytest.raises(ValueError, match="dataset 'toy' is not the same in all of these results"):
        merge([one_run("gas", 0), changed])
    with pytest.raises(ValueError, match="nothing to merge"):
        merge([])


def test_a_setting_that_an_earlier_version_did_not_have_changes_nothing():
    before = '{"seed": 0, "training": {"lr": 0.1, "threads": 2}, "dataset": "here/toy.npz"}'
    now = (
        '{"seed": 0, "dataset": "there/toy.npz", "training": {"lr": 0.1, "patience": null, "num_workers": 0}, '
        '"budget": {"threads": 2, "memory_gb": 4, "cell_seconds": null}}'
    )
    assert identity(before) == identity(now)
    assert identity(before) != identity(before.replace("0.1", "0.2"))
    assert identity(before) != identity(before.replace('"threads": 2', '"threads": 1'))


# Of each cell, in a part once at most, what it came to on some days.
_CELLS = [("gas", 0, 2), ("gas", 1, 2), ("gas", 0, 4), ("full", 0, 2), ("full", 0, 4)]
_RUNS = {
    (cell, day): one_run(cell[0], cell[1], [0.1 * cell[1] + 0.01 * day], layers=cell[2], started=f"2026-01-0{day}",
                         status="ok" if day != 2 else "failed: no")
    for cell in _CELLS for day in (1, 2, 3)
}  # fmt: skip
_PART = st.dictionaries(st.sampled_from(_CELLS), st.sampled_from([1, 2, 3]), min_size=1, max_size=4)


@settings(max_examples=15, deadline=None)
@given(st.lists(_PART, min_size=2, max_size=3))
def test_merging_is_idempotent_and_the_order_of_parts_does_not_matter(parts):
    frames = [results_of(*(_RUNS[run] for run in part.items())) for part in parts]
    merged = merge(frames)
    assert cells(merge([merged])) == cells(merged)
    assert cells(merge([merged, merged])) == cells(merged)
    assert cells(merge(frames[::-1])) == cells(merged)
    assert cells(merge([*frames, merged])) == cells(merged)
    assert not merged.duplicated([*LABELS, "seed", "epoch"]).any()


def test_folders_are_merged_and_told_about(tmp_path):
    for name, seed, cpu in (("a", 0, "one"), ("b", 0, "one"), ("c", 1, "other")):
        rows = one_run("gas", seed, machine=f'{{"cpu": "{cpu}", "cores": 2}}')
        write_results(rows, tmp_path / name / "results.parquet")
    merged, said = merge_folders([tmp_path / name for name in "abc"], tmp_path / "out")
    assert merged["seed"].unique().tolist() == [0, 1]
    assert said == [
        "merged 2 runs of 3 folders; 1 were there more than once.",
        "the times come from 2 machines and cannot be compared across them: one, 2, 1 threads; other, 2, 1 threads.",
    ]
    (tmp_path / "a" / "cells").mkdir()
    with pytest.raises(ValueError, match="comparison's own folder"):
        merge_folders([tmp_path / "a"], tmp_path / "a")
