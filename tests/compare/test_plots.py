import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from gnnscale.compare.plots import curves, draw_curves, styles


def known_results(speeds, datasets=("toy",)):
    rows = [
        {
            "dataset": dataset, "model": "gcn", "sampler": sampler, "seed": seed, "epoch": epoch,
            "train_seconds": speed * epoch * (1 + seed), "test": 0.1 * epoch + 0.01 * seed,
            "status": "ok", "metric": "roc_auc", "num_nodes": 10, "num_edges": 20,
        }
        for dataset in datasets
        for sampler, speed in speeds.items()
        for seed in (0, 1, 2)
        for epoch in (1, 2, 3)
    ]  # fmt: skip
    return pd.DataFrame(rows)


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


def drawn_axes(results, tmp_path, monkeypatch, x="train_seconds"):
    """Draw, and return the panels that were saved."""
    from matplotlib.figure import Figure

    saved = []
    savefig = Figure.savefig

    def remember(figure, *arguments, **options):
        saved.append(figure)
        savefig(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", remember)
    draw_curves(results, tmp_path / "figure.png", x)
    return [axes for axes in saved[0].axes if axes.get_title()]


@pytest.mark.parametrize(("factor", "scale"), [(2, "linear"), (20, "log")])
def test_the_figure_shows_the_medians_and_says_what_it_shows(tmp_path, monkeypatch, factor, scale):
    results = known_results({"full": 1.0, "gas": 1.0 * factor})
    (axes,) = drawn_axes(results, tmp_path, monkeypatch)
    line = axes.get_lines()[1]
    np.testing.assert_allclose(line.get_xdata(), [2 * factor, 4 * factor, 6 * factor])
    np.testing.assert_allclose(line.get_ydata(), [11, 21, 31])
    assert axes.get_xscale() == scale
    assert axes.get_xlabel() == "training time in seconds (without evaluation and preparation)"
    assert axes.get_ylabel() == "test ROC AUC (%)"
    assert axes.get_title() == "toy, gcn\n10 nodes, 20 edges"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["full (3 seeds)", "gas (3 seeds)"]
    image = imread(tmp_path / "figure.png")
    assert image.shape[0] > 800
    assert image.shape[1] > 1200
    assert 0.02 < (image[..., :3] < 0.9).any(axis=2).mean() < 0.6


def test_a_panel_for_each_dataset_and_failed_cells_do_not_stop_the_drawing(tmp_path, monkeypatch):
    results = known_results({"full": 1.0, "gas": 1.0}, datasets=("a", "b", "c"))
    results.loc[results["dataset"] == "b", ["status", "test"]] = ["failed: no", np.nan]
    panels = drawn_axes(results, tmp_path, monkeypatch, x="epoch")
    assert [axes.get_title().partition(",")[0] for axes in panels] == ["a", "b", "c"]
    assert panels[1].get_legend().get_texts()[0].get_text() == "full (0 of 3 seeds finished)"


def test_a_sampler_looks_the_same_in_every_figure_and_no_two_look_the_same():
    alone = styles(["gas"])["gas"]
    many = styles(["full", "neighbor", "neighbor(fanouts=[5, 5])", "gas", "mine"])
    assert many["gas"] == alone
    assert len({(style["color"], str(style["linestyle"]), style["marker"]) for style in many.values()}) == 5
    assert styles(["neighbor(fanouts=[5, 5])", "neighbor"])["neighbor"] == many["neighbor"]
