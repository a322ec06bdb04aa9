"""Paired tests, compared with scipy's and with a count over all signs."""

import json
import warnings
from itertools import combinations

import numpy as np
import pytest
from frames import one_run, results_of
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gnnscale.compare.statistics import PAIRED_COLUMNS, holm, paired, t_tests


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def t_test(values, others):
    found = t_tests(np.array(values)[:, None], np.array(others)[:, None])
    return {name: column.item() for name, column in found.items()}


def some_results(samplers=("full", "gas", "lmc"), seeds=5, **columns):
    random = np.random.default_rng(0)
    return results_of(
        *(one_run(sampler, seed, [0.7 + 0.1 * random.random()], speed=1 + random.random(), **columns)
          for sampler in samplers for seed in range(seeds))
    )  # fmt: skip


def test_pairs_are_tested_as_scipy_does():
    results = some_results()
    tests = results.pivot_table(index="seed", columns="sampler", values="test")
    times = results.pivot_table(index="seed", columns="sampler", values="train_seconds")
    table = paired(results)
    assert list(table) == list(PAIRED_COLUMNS)
    assert len(table) == 6
    for quantity, values in (("test", tests), ("log_seconds_per_epoch", np.log(times))):
        rows = table[table["quantity"] == quantity]
        expected = {pair: stats.ttest_rel(values[pair[0]], values[pair[1]]) for pair in combinations(values, 2)}
        assert [(row.sampler, row.other) for row in rows.itertuples()] == list(expected)
        for row, test in zip(rows.itertuples(), expected.values(), strict=True):
            assert (row.t, row.p) == pytest.approx((test.statistic, test.pvalue))
            assert row.seeds == 5
            difference = values[row.sampler] - values[row.other]
            assert row.mean_difference == pytest.approx(difference.mean())
            assert row.standard_error == pytest.approx(difference.sem())
            interval = test.confidence_interval(0.95)
            assert (row.low, row.high) == pytest.approx((interval.low, interval.high))
        smallest = min(test.pvalue for test in expected.values())
        assert rows["p_holm"].min() == pytest.approx(min(3 * smallest, 1))


def test_only_seeds_that_both_finished_count():
    results = results_of(
        one_run("full", 0, [0.7]), one_run("full", 1, [0.8]), one_run("full", 2, [0.1]),
        one_run("gas", 1, [0.5]), one_run("gas", 0, [0.6]), one_run("gas", 3, [0.1]),
        one_run("gas", 2, [0.9], status="failed: no", outcome="raised"), one_run("lmc", 7, [0.5]),
    )  # fmt: skip
    (row,) = paired(results).query("quantity == 'test'").to_dict("records")
    assert (row["sampler"], row["other"], row["seeds"]) == ("full", "gas", 2)
    assert row["mean_difference"] == pytest.approx((0.1 + 0.3) / 2)


def test_times_of_several_machines_are_not_set_beside_each_other():
    machines = [json.dumps({"cpu": name, "cores": 2, "gpu": None}) for name in ("one", "other")]
    results = results_of(
        *(one_run("full", seed, [0.7 + 0.01 * seed], machine=machines[0]) for seed in range(4)),
        *(one_run("gas", seed, [0.7 - 0.02 * seed], machine=machines[seed % 2]) for seed in range(4)),
    )
    table = paired(results).set_index("quantity")
    assert table.loc["test", "seeds"] == 4
    assert table.loc["log_seconds_per_epoch", "seeds"] == 2


@pytest.mark.parametrize(
    ("values", "others"),
    [
        ([0.5], [0.4]),
        ([0.5, 0.6, 0.7], [0.5, 0.6, 0.7]),
        ([0.5, 0.6, 0.7], [0.4, 0.5, 0.6]),
        ([0.1 + 0.2] * 2, [0.3] * 2),
    ],
)
def test_where_differences_do_not_vary_there_is_no_p(values, others):
    test = t_test(np.array(values), np.array(others))
    assert np.isnan([test["t"], test["p"], test["low"]]).all()
    assert test["mean_difference"] == pytest.approx(np.mean(values) - np.mean(others))
    assert (len(values) == 1) == np.isnan(test["standard_error"])


def test_results_without_a_finished_pair_make_an_empty_table():
    for results in (one_run("gas", 0), one_run("gas", 0).head(0), one_run("gas", 0, (), status="failed: no")):
        assert paired(results).empty
        assert list(paired(results)) == list(PAIRED_COLUMNS)


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holms_correction_is_the_one_of_its_definition(p_values):
    """The i-th smallest of m is rejected at a level if all before it are, and p <= level / (m - i + 1)."""
    corrected = holm(p_values)
    for level in (0.01, 0.05, 0.2):
        order = np.argsort(p_values, kind="stable")
        rejected = set()
        for rank, i in enumerate(order):
            if min(1.0, (len(p_values) - rank) * p_values[i]) > level:
                break
            rejected.add(i)
        assert {i for i, p in enumerate(corrected) if p <= level} == rejected


@settings(max_examples=10, deadline=None)
@given(st.randoms(use_true_random=False))
def test_neither_the_order_of_rows_nor_of_samplers_matters(random):
    results = some_results()
    order = list(range(len(results)))
    random.shuffle(order)
    found = {(row.quantity, row.sampler, row.other): row for row in paired(results.iloc[order]).itertuples()}
    for row in paired(results).itertuples():
        if (same := found.get((row.quantity, row.sampler, row.other))) is not None:
            assert same.mean_difference == pytest.approx(row.mean_difference)
        else:
            same = found[row.quantity, row.other, row.sampler]
            assert same.mean_difference == pytest.approx(-row.mean_difference)
            assert (same.low, same.high) == pytest.approx((-row.high, -row.low))
        assert (same.p, same.p_holm) == pytest.approx((row.p, row.p_holm))


def test_samplers_that_do_not_differ_are_seldom_told_apart():
    """With Holm's correction, at most one comparison in twenty finds any difference where there is none."""
    random = np.random.default_rng(1)
    wrong = 0
    for _ in range(400):
        values = random.normal(0.8, 0.01, size=(4, 5)) + random.normal(0, 0.02, size=5)
        p = holm([t_test(a, b)["p"] for a, b in combinations(values, 2)])
        wrong += min(p) < 0.05
    assert wrong <= 32  # 400 × 0.05 and three standard deviations


def test_pairing_by_seed_finds_what_a_comparison_of_means_does_not():
    random = np.random.default_rng(2)
    split = random.normal(0, 0.05, size=5)
    values, others = 0.80 + split, 0.79 + split + random.normal(0, 0.002, size=5)
    assert t_test(values, others)["p"] < 0.01 < stats.ttest_ind(values, others).pvalue
