"""What the figures show, read off their axes; and that they fit."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from frames import one_run, results_of
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from gnnscale.compare.draw_curves import accuracy_vs_epoch, accuracy_vs_time, curves
from gnnscale.compare.draw_memory import accuracy_vs_memory, memory_vs_layers
from gnnscale.compare.draw_stages import time_by_stage
from gnnscale.compare.draw_target import time_to_target
from gnnscale.compare.figure import COLUMN, FULL, paper, shorten
from gnnscale.compare.figures import FIGURES, draw_all
from gnnscale.compare.plots import dashes, styles
from gnnscale.compare.summary import summarise
from gnnscale.samplers import SAMPLERS


def known_results(speeds, datasets=("toy",), **columns):
    return results_of(
        *(one_run(sampler, seed, [0.1 + 0.01 * seed, 0.2 + 0.01 * seed, 0.3 + 0.01 * seed], dataset=dataset,
                  speed=speed * (1 + seed), **columns)
          for dataset in datasets for sampler, speed in speeds.items() for seed in (0, 1, 2))
    )  # fmt: skip


def drawn(draw, results, target=None, count_preparation=False):
    summary = summarise(results, target, count_preparation)
    with paper():
        return draw(results, summary=summary, target=target, count_preparation=count_preparation)


def panels(figure):
    return [axes for axes in figure.axes if axes.get_title()]


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def note(figure):
    return " ".join(figure.texts[-1].get_text().split())


def test_curves_join_seeds_by_epoch():
    results = known_results({"full": 1.0, "gas": 10.0})
    results.loc[(results["sampler"] == "gas") & (results["seed"] == 2), "status"] = "failed: no"
    made = curves(results)
    full = made["full"]
    np.testing.assert_allclose(full.table["x"], [2, 4, 6])
    np.testing.assert_allclose(full.table["median"], [0.11, 0.21, 0.31])
    np.testing.assert_allclose(full.table["low"], [0.10, 0.20, 0.30])
    np.testing.assert_allclose(full.table["high"], [0.12, 0.22, 0.32])
    assert (made["gas"].finished, made["gas"].runs) == (2, 3)
    np.testing.assert_allclose(made["gas"].table["x"], [15, 30, 45])
    np.testing.assert_allclose(curves(results, "epoch")["gas"].table["x"], [1, 2, 3])
    np.testing.assert_allclose(curves(results, count_preparation=True)["full"].table["x"], [2.5, 4.5, 6.5])


def test_a_curve_ends_where_the_first_seed_stopped():
    """Beyond it the median would be over those that went on, which are not like the others."""
    results = results_of(one_run("gas", 0, [0.1, 0.2, 0.3]), one_run("gas", 1, [0.5, 0.6]))
    np.testing.assert_allclose(curves(results, "epoch")["gas"].table["median"], [0.3, 0.4])


@pytest.mark.parametrize(("factor", "scale"), [(2, "linear"), (20, "log")])
def test_accuracy_against_time_shows_the_medians_and_says_what_it_shows(factor, scale):
    figure = drawn(accuracy_vs_time, known_results({"full": 1.0, "gas": 1.0 * factor}))
    (axes,) = panels(figure)
    line = axes.get_lines()[1]
    np.testing.assert_allclose(line.get_xdata(), [2 * factor, 4 * factor, 6 * factor])
    np.testing.assert_allclose(line.get_ydata(), [11, 21, 31])
    assert axes.get_xscale() == scale
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("training time (s)", "test accuracy (%)")
    assert axes.get_title() == "toy, gcn\n10 nodes, 20 edges"
    assert legend(figure) == ["full", "gas"]
    assert note(figure) == (
        "line: median over seeds, up to the epoch that all reached; band: lowest to highest seed; "
        "time without evaluation and preparation. 3 seeds."
    )
    counted = drawn(accuracy_vs_time, known_results({"full": 1.0, "gas": 1.0 * factor}), count_preparation=True)
    np.testing.assert_allclose(panels(counted)[0].get_lines()[0].get_xdata(), [2.5, 4.5, 6.5])
    assert "time without evaluation, with preparation" in note(counted)


def test_a_panel_for_each_dataset_and_failed_cells_do_not_stop_the_drawing():
    results = known_results({"full": 1.0, "gas": 1.0}, datasets=("a", "b", "c"))
    results.loc[results["dataset"] == "b", ["status", "test"]] = ["failed: no", np.nan]
    figure = drawn(accuracy_vs_epoch, results)
    assert [axes.get_title().partition(",")[0] for axes in panels(figure)] == ["a", "b", "c"]
    assert [text.get_text() for text in panels(figure)[1].texts] == ["no run has finished"]
    assert "not all finished: full 0 of 3 on b, gcn; gas 0 of 3 on b, gcn." in note(figure)
    alone = drawn(accuracy_vs_epoch, results[results["dataset"] == "b"])
    assert "not all finished: full 0 of 3; gas 0 of 3." in note(alone)


def test_times_of_two_machines_in_one_figure_are_warned_of():
    results = known_results({"full": 1.0}, machine='{"cpu": "one"}')
    results.loc[results["seed"] == 1, "machine"] = '{"cpu": "other"}'
    for draw in (accuracy_vs_time, time_by_stage):
        assert "times of 2 machines, which cannot be compared" in note(drawn(draw, results))
    assert "machines" not in note(drawn(accuracy_vs_epoch, results))


def test_bars_add_up_to_the_epoch_and_carry_the_share_of_sampling():
    figure = drawn(time_by_stage, known_results({"full": 1.0, "gas": 3.0}))
    (axes,) = panels(figure)
    ends = [bar.get_x() + bar.get_width() for bar in axes.patches]
    assert max(ends) == pytest.approx(3.0 * 2)
    assert [text.get_text() for text in axes.texts] == ["30 %", "30 %"]
    assert legend(figure) == ["sampling", "gathering", "history", "compute"]
    assert len({bar.get_hatch() for bar in axes.patches}) == 4


def test_with_workers_the_bar_shows_the_waiting():
    figure = drawn(time_by_stage, known_results({"gas": 1.0}, training={"num_workers": 2}))
    assert legend(figure) == ["waiting for workers", "history", "compute"]
    assert [text.get_text() for text in panels(figure)[0].texts] == ["40 %"]


def depths(failing=()):
    return results_of(
        *(one_run(sampler, seed, (0.5,) if (sampler, layers) not in failing else (), model=f"gcn(layers={layers})",
                  layers=layers, peak_memory_mb=100.0 * layers + seed,
                  status="failed: no memory" if (sampler, layers) in failing else "ok")
          for sampler in ("full", "neighbor") for layers in (2, 8, 4) for seed in (0, 1))
    )  # fmt: skip


def test_memory_stands_against_layers_and_what_failed_is_marked():
    figure = drawn(memory_vs_layers, depths(failing={("neighbor", 8)}))
    memory, seconds = panels(figure)
    full, neighbor = memory.get_lines()
    assert (full.get_xdata().tolist(), full.get_ydata().tolist()) == ([2, 4, 8], [201, 401, 801])
    assert neighbor.get_xdata().tolist() == [2, 4]
    assert [(mark.get_text(), mark.xy[0]) for mark in memory.texts] == [("✕", 8)]
    assert (memory.get_title(), seconds.get_ylabel()) == ("toy, gcn", "seconds an epoch")
    assert drawn(memory_vs_layers, known_results({"full": 1.0})) is None


def test_memory_is_that_of_the_gpu_where_all_runs_had_one():
    results = known_results({"full": 1.0, "gas": 1.0})
    figure = drawn(accuracy_vs_memory, results)
    assert [round(float(line.get_xdata()[0])) for line in panels(figure)[0].get_lines()[::3]] == [102, 102]
    assert "resident memory of the process" in note(figure)
    assert "on the GPU" in note(drawn(accuracy_vs_memory, results.assign(peak_device_memory_mb=7.0)))


def test_time_to_target_lists_the_fastest_first_and_says_who_never_came():
    results = results_of(
        *(one_run("full", seed, [0.1, 0.9], speed=5.0) for seed in (0, 1)),
        *(one_run("gas", seed, [0.1, 0.9], speed=1.0) for seed in (0, 1)),
        one_run("lmc", 0, [0.1]), one_run("lmc", 1, [0.9]), one_run("mvs", 0, [0.1]), one_run("mvs", 1, [0.2]),
    )  # fmt: skip
    (axes,) = panels(drawn(time_to_target, results, target=0.8))
    assert [label.get_text() for label in axes.get_yticklabels()] == ["gas", "full", "lmc", "mvs"]
    assert [text.get_text() for text in axes.texts] == ["1 of 2", "never"]
    assert axes.get_title() == "toy, gcn\nvalidation accuracy 80 %"
    assert drawn(time_to_target, results) is None


@pytest.mark.parametrize("others", [1.0, 100.0])
def test_words_about_seeds_that_never_came_hide_none_that_did(others):
    results = results_of(
        *(one_run("full", seed, [0.1, 0.9], speed=others) for seed in range(10)),
        *(one_run("gas", seed, [0.1, 0.9 if seed < 2 else 0.2], speed=others * 1.1) for seed in range(10)),
    )
    figure = drawn(time_to_target, results, target=0.8)
    figure.canvas.draw()
    (axes,) = panels(figure)
    (words,) = axes.texts
    assert words.get_text() == "2 of 10"
    points = np.concatenate([line.get_xydata() for line in axes.lines if line.get_linestyle() == "None"])
    last = max(axes.transData.transform((x, y))[0] for x, y in points if np.isfinite(x))
    assert last + 4 < words.get_window_extent().x0


# ---------- the files ----------


def test_figures_without_data_are_not_there_any_more(tmp_path):
    results = known_results({"full": 1.0})
    first = draw_all(results, tmp_path, target=0.2, formats=("svg", "pdf"))
    assert {path.name for path in first} == {
        f"{name}.{form}" for name in FIGURES if name != "memory_vs_layers" for form in ("svg", "pdf")
    }
    assert all(path.read_bytes() for path in first)
    again = draw_all(results, tmp_path, formats=["svg"])
    assert "time_to_target" not in {path.stem for path in tmp_path.iterdir()}
    kept = {path.name: path.read_bytes() for path in again}
    assert {path.name: path.read_bytes() for path in draw_all(results, tmp_path, formats=["svg"])} == kept


def test_empty_results_make_figures_that_say_so(tmp_path):
    for results in (known_results({"full": 1.0}).head(0), one_run("gas", 0, (), status="failed: no")):
        names = [path.name for path in draw_all(results, tmp_path, target=0.5, formats=["png"])]
        assert names == ["accuracy_vs_time.png", "accuracy_vs_epoch.png"]
    figure = drawn(accuracy_vs_time, known_results({"full": 1.0}).head(0))
    assert [text.get_text() for text in figure.axes[0].texts] == ["there are no results"]


LONG = ["neighbor(fanouts=[25, 10], replace=True)", "MySampler(budget=400, policy='with a name beyond all measure')"]


@pytest.mark.parametrize(
    ("samplers", "datasets"),
    [(["gas"], 1), (list(SAMPLERS), 1), (LONG, 2), (["full", "gas"], 3)],
)
def test_nothing_overlaps_or_leaves_the_page(samplers, datasets):
    """Titles, ticks, legend and note of every figure, measured as they are drawn."""
    names = [f"a-dataset-with-a-long-name-{i}" for i in range(datasets)]
    results = known_results({sampler: 1.0 + i for i, sampler in enumerate(samplers)}, names)
    for name, draw in FIGURES.items():
        if (figure := drawn(draw, results, target=0.2)) is None:
            continue
        with warnings.catch_warnings(), paper():
            warnings.simplefilter("error")
            figure.canvas.draw()
        wide = datasets > 1 or (
            len(samplers) > 10 and name in ("accuracy_vs_time", "accuracy_vs_epoch", "accuracy_vs_memory")
        )
        assert figure.get_size_inches()[0] == (FULL if wide else COLUMN)
        page = figure.bbox
        boxes = [axes.get_tightbbox() for axes in panels(figure)]
        below = [*(found.get_window_extent() for found in figure.legends), figure.texts[-1].get_window_extent()]
        for box in (*boxes, *below):
            assert box.x0 >= page.x0 - 1, name
            assert box.x1 <= page.x1 + 1, name
            assert box.y0 >= page.y0 - 1, name
            assert box.y1 <= page.y1 + 1, name
        # From above: panels, legend, note.
        lowest = min(box.y0 for box in boxes)
        for box in below:
            assert box.y1 <= lowest + 1, name
            lowest = box.y0
        sizes = [text.get_fontsize() for axes in panels(figure) for text in (*axes.get_xticklabels(), *axes.texts)]
        assert min(sizes, default=7) >= 6.5


def test_long_texts_lose_their_middle():
    for length in range(8, 60):
        assert len(shorten(LONG[1], length)) <= max(length, 8)
        assert shorten(LONG[1], length).startswith("MyS")
        assert shorten("gas", length) == "gas"


# ---------- how samplers look ----------


def key(style):
    return style["color"], str(style["linestyle"]), style["marker"]


def test_a_sampler_looks_the_same_in_every_figure_and_no_two_look_the_same():
    alone = styles(["gas"])["gas"]
    many = styles(["full", "neighbor", "neighbor(fanouts=[5, 5])", "gas", "mine"])
    assert many["gas"] == alone
    assert len(set(map(key, many.values()))) == 5
    assert styles(["neighbor(fanouts=[5, 5])", "neighbor"])["neighbor"] == many["neighbor"]
    everything = styles([*SAMPLERS, *(f"mine{i}" for i in range(40))])
    assert {name: styles([name])[name] for name in SAMPLERS} == {name: everything[name] for name in SAMPLERS}
    assert len(set(map(key, everything.values()))) == len(SAMPLERS) + 40
    # Without colour too.
    assert len({key(style)[1:] for style in everything.values()}) == len(everything)


def test_every_sampler_has_a_colour_that_can_be_seen_on_white():
    shown = styles(list(SAMPLERS))
    assert len({style["color"] for style in shown.values()}) == len(SAMPLERS)
    for name, style in shown.items():
        red, green, blue = to_rgb(style["color"])
        assert 0.299 * red + 0.587 * green + 0.114 * blue < 0.75, name
        assert all(length > 0 for length in dashes(style))


def test_settings_of_one_sampler_have_colours_of_their_own():
    made = styles([f"neighbor(fanouts=[{k}, {k}])" for k in (1, 2, 5, 10, 20)])
    assert len({style["color"] for style in made.values()}) == 5
    assert styles(["neighbor"])["neighbor"] in made.values()


def test_the_picture_is_large_enough_for_print(tmp_path):
    (path, *_) = draw_all(known_results({"full": 1.0, "gas": 1.0}), tmp_path, formats=["png"])
    image = imread(path)
    assert isinstance(path, Path)
    assert image.shape[1] == pytest.approx(300 * COLUMN, abs=1)
    assert 0.01 < (image[..., :3] < 0.9).any(axis=2).mean() < 0.6
