"""The page: what is put into it, and what a real browser makes of it."""

import base64
import json
import re
import shutil
import time

import compare_targets
import numpy as np
import pandas as pd
import pytest
from page_results import EVIL_NAME, EVIL_REASON, made_results, one_run, results_with_failures

from gnnscale.compare.page import write_page
from gnnscale.compare.page.content import content, settings
from gnnscale.compare.page.curves import runs
from gnnscale.compare.page.folder import figures, log_tail
from gnnscale.compare.page.write import fill

# ---------- what is put into it ----------


def test_small_results_are_shown_whole():
    (run,) = runs(one_run("cora", "gcn", "full", 7, speed=1 / 3))
    assert (run["sampler"], run["seed"], run["ok"], run["prepare"], run["of"]) == ("full", 7, True, 10.0, 5)
    assert run["epoch"] == [1, 2, 3, 4, 5]
    assert run["train_seconds"] == [0.33333, 0.66667, 1.0, 1.3333, 1.6667]
    assert "staleness" not in run


def test_large_results_are_thinned_to_the_same_epochs_in_every_run():
    results = made_results(datasets=["cora"], epochs=500)
    made = runs(results, points=900)
    kept = {tuple(run["epoch"]) for run in made}
    assert len(kept) == 1
    (epochs,) = kept
    assert 60 <= len(epochs) <= 100
    assert epochs[:4] == (1, 2, 3, 4)
    assert epochs[-1] == 500
    assert max(np.diff(epochs)) <= 12
    assert {run["of"] for run in made} == {500}


def test_a_run_that_ended_early_keeps_its_last_point():
    results = made_results(datasets=["cora"], samplers=["full"], seeds=1, epochs=500)
    stopped = one_run("cora", "gcn", "full", 1, epochs=333)
    both = runs(pd.concat([results, stopped], ignore_index=True), points=60)
    assert both[1]["epoch"][-1] == 333
    assert set(both[1]["epoch"][:-1]) <= set(both[0]["epoch"])


def test_settings_are_told_apart_from_those_that_all_runs_have():
    told = settings(made_results(target=0.7))
    assert told["common"] == {
        "budget.threads": "1", "model.hidden": "64", "epochs": "5", "lr": "0.01", "target": "0.7",
    }  # fmt: skip
    assert told["own"] == [
        {"samplers": ["full", "neighbor"], "where": "", "text": ""},
        {"samplers": ["gas"], "where": "", "text": "sampler.num_parts 40"},
    ]


def test_the_log_of_a_failed_cell_is_found_by_its_settings(tmp_path):
    cell = compare_targets.make_cell(seed=3)
    (tmp_path / "cells").mkdir()
    log = tmp_path / "cells" / f"{cell.file_name}.log"
    log.write_text("\n".join(f"line {i}" for i in range(40)) + "\n")
    stored = json.dumps(cell.settings, sort_keys=True, default=repr)
    assert log_tail(stored, tmp_path).splitlines() == [f"line {i}" for i in range(25, 40)]
    assert log_tail(stored.replace('"seed": 3', '"seed": 4'), tmp_path) == ""


def test_figures_are_taken_in_until_the_page_would_be_large(tmp_path):
    (tmp_path / "a_vs_b.png").write_bytes(b"1234")
    (tmp_path / "a_vs_b.svg").write_bytes(b"<svg/>" * 100)
    assert figures(tmp_path, limit=100) == [
        {"name": "a_vs_b", "files": {"png": "data:image/png;base64," + base64.b64encode(b"1234").decode(), "svg": None}}
    ]


def test_nothing_in_the_data_can_end_its_element(tmp_path):
    data = content(results_with_failures(), tmp_path)
    page = fill(data, "PLOTLY")
    embedded = re.search(r'<script type="application/json" id="content">(.*?)</script>', page, re.DOTALL)[1]
    assert not set(embedded) & set("<>&")
    assert json.loads(embedded) == data
    assert EVIL_NAME in data["styles"]
    assert data["failures"][1]["reason"] == EVIL_REASON.removeprefix("failed: ")
    # The template's own three, and no more.
    assert len(re.findall(r"<script", page)) == 3


def test_a_page_of_results_that_all_failed_can_be_written(tmp_path):
    results = one_run("cora", "gcn", "full", 0, epochs=0, status="failed: no", outcome="raised")
    assert write_page(results, tmp_path) == tmp_path / "report.html"


def test_no_number_of_runs_gives_a_large_page():
    results = made_results(datasets="ab", samplers=[f"s{i}" for i in range(10)], seeds=5, epochs=60)
    made = runs(results, points=2_500)
    assert sum(len(run["epoch"]) for run in made) <= 2_500
    # 60,000 points are below 4 MB.
    assert len(json.dumps(made)) < 4e6 * 2_500 / 60_000


# ---------- what a browser makes of it ----------


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    for name in ("accuracy_vs_time.png", "accuracy_vs_time.svg"):
        (folder / name).write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    return write_page(results_with_failures(), folder)


def split_at_gaps(values):
    parts = [[]]
    for value in values:
        if value is None:
            parts.append([])
        else:
            parts[-1].append(value)
    return [part for part in parts if part]


class Opened:
    """A page in the browser, with what it said and asked for while it was open."""

    def __init__(self, browser, report, **options):
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(20_000)
        self.trouble, self.requests = [], []
        self.page.on("console", lambda message: self.trouble.append(message.text))
        self.page.on("pageerror", lambda error: self.trouble.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.trouble.append(dialog.message), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(report.as_uri())
        self.page.wait_for_selector(".plot .scatterlayer", state="attached")

    def plotted(self, panel=0):
        """Of one plot: its lines by sampler, without bands, and the type and title of its x axis."""
        return self.page.evaluate(
            """panel => {
                const plot = document.querySelectorAll(".plot")[panel];
                const lines = plot.data.filter(trace => trace.fill !== "toself");
                return {names: lines.map(trace => trace.name), x: lines.map(trace => [...trace.x]),
                        y: lines.map(trace => [...trace.y]), type: plot.layout.xaxis.type,
                        title: plot.layout.xaxis.title.text, shapes: plot.layout.shapes.length,
                        drawn: plot.querySelectorAll(".scatterlayer .trace .js-line").length};
            }""",
            panel,
        )

    def column(self, key):
        """The texts of one column of the summary."""
        return self.page.evaluate(
            """key => {
                const table = document.getElementById("summary");
                const at = [...table.tHead.rows[0].cells].findIndex(cell => cell.dataset.key === key);
                return [...table.tBodies[0].rows].map(row => row.cells[at].textContent);
            }""",
            key,
        )


@pytest.fixture(scope="module")
def opened(browser, report):
    opened = Opened(browser, report, viewport={"width": 1280, "height": 900})
    yield opened
    opened.context.close()


def test_it_loads_in_silence_and_asks_for_nothing(opened, report):
    assert opened.page.title() == f"{report.parent.name} · gnnscale"
    assert opened.trouble == []
    assert [url for url in opened.requests if not url.startswith(("data:", "blob:"))] == [report.as_uri()]
    assert opened.page.locator("#lead").inner_text() == "2 datasets, 1 model, 4 samplers, 4 seeds: 2 of 20 runs failed."


def test_curves_are_medians_over_the_seeds_that_finished(opened):
    plotted = opened.plotted()
    assert plotted["names"] == ["full", "neighbor", "gas"]
    np.testing.assert_allclose(plotted["x"], [np.arange(1, 6), 2 * np.arange(1, 6), 3 * np.arange(1, 6)])
    # Seeds 0, 1 and 2 lie a hundredth apart; the diverged seed 3 is not in the median.
    np.testing.assert_allclose(plotted["y"], [51 + 5 * np.arange(1, 6)] * 3)


def test_a_click_on_a_legend_entry_takes_the_curve_away_and_brings_it_back(opened):
    before = opened.plotted()
    chip = opened.page.get_by_role("button", name="neighbor", exact=True)
    chip.click()
    assert chip.get_attribute("aria-pressed") == "false"
    without = opened.plotted()
    assert without["names"] == ["full", "gas"]
    assert without["drawn"] < before["drawn"]
    # By keyboard too.
    chip.press("Enter")
    assert opened.plotted() == before
    chip.dblclick()
    assert opened.plotted()["names"] == ["neighbor"]
    opened.page.locator("#chips-sampler").get_by_text("all", exact=True).click()
    assert opened.plotted() == before


def test_both_axes_change(opened):
    page = opened.page
    page.select_option("#x", "edges")
    assert opened.plotted()["title"] == "edges computed over"
    np.testing.assert_allclose(opened.plotted()["x"][0], 1000 * np.arange(1, 6))
    page.check("#log-x")
    assert opened.plotted()["type"] == "log"
    page.uncheck("#log-x")
    page.select_option("#x", "train_seconds")
    page.check("#prepare")
    np.testing.assert_allclose(opened.plotted()["x"][0], 10 + np.arange(1, 6))
    assert "preparation" in opened.plotted()["title"]
    page.uncheck("#prepare")
    assert opened.plotted()["shapes"] == 0
    page.select_option("#y", "val")
    np.testing.assert_allclose(opened.plotted()["y"][0], 50 + 5 * np.arange(1, 6))
    assert opened.plotted()["shapes"] == 1, "the target is a validation metric"
    page.select_option("#y", "staleness")
    assert opened.plotted()["names"] == ["gas"]
    page.select_option("#y", "test")


def test_seeds_datasets_and_smoothing_are_chosen(opened):
    page = opened.page
    page.select_option("#lines", "seeds")
    plotted = opened.plotted()
    # Three runs of five points with gaps between them; gas also the diverged one with two, and the cross at its end.
    lengths = [[len(part) for part in split_at_gaps(x)] for x in plotted["x"]]
    assert dict(zip(plotted["names"][:2], lengths[:2], strict=True)) == {"full": [5, 5, 5], "neighbor": [5, 5, 5]}
    assert lengths[2:] == [[5, 5, 5, 2], [1]]
    page.select_option("#lines", "range")
    page.locator("#chips-dataset").get_by_text("cora", exact=True).click()
    assert page.locator(".plot").count() == 1
    page.locator("#chips-dataset").get_by_text("cora", exact=True).click()
    assert page.locator(".plots figcaption").all_inner_texts()[0].startswith("cora, gcn")
    page.focus("#smooth")
    page.keyboard.press("ArrowRight")
    smoothed = opened.plotted()["y"][0]
    # Half-life of one epoch: weights 1/2 and 1 of the first two points.
    np.testing.assert_allclose(smoothed[:2], [56, (0.5 * 56 + 61) / 1.5])
    assert "half-life of 1 epoch" in page.locator("#note").inner_text()
    page.keyboard.press("ArrowLeft")


def test_the_table_sorts_and_filters(opened):
    page = opened.page
    assert opened.column("sampler") == ["full", "neighbor", "gas", "full", "neighbor", "gas", EVIL_NAME]
    header = page.locator("th[data-key=seconds_per_epoch]")
    assert header.get_attribute("aria-sort") == "none"
    header.get_by_role("button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    # What has no number is last, either way.
    assert opened.column("seconds_per_epoch") == ["1.00", "1.00", "2.00", "2.00", "3.00", "3.00", ""]
    page.keyboard.press("Enter")
    assert header.get_attribute("aria-sort") == "descending"
    assert opened.column("seconds_per_epoch") == ["3.00", "3.00", "2.00", "2.00", "1.00", "1.00", ""]
    page.select_option("#filter-dataset", "citeseer")
    assert opened.column("sampler") == ["gas", "neighbor", "full"]
    page.select_option("#filter-dataset", "")
    assert opened.column("test_mean")[0] == "76.00 ± 0.58"


def test_failures_tests_settings_and_figures_are_there(opened):
    page = opened.page
    failures = page.locator("#failures summary").all_inner_texts()
    assert len(failures) == 2
    assert "diverged" in failures[0]
    assert EVIL_REASON.removeprefix("failed: ") in failures[1]
    page.select_option("#baseline", "gas")
    assert "full equals gas over 3 seeds" in page.locator("#tests").inner_text().replace("  ", " ")
    assert "a CPU" in page.locator("#setup").inner_text()
    assert page.locator("#figures a").count() == 2
    with page.expect_download() as saved:
        page.locator("#downloads").get_by_text("summary.csv").click()
    lines = saved.value.path().read_text().splitlines()
    assert len(lines) == 8
    assert lines[0].startswith("dataset,model,sampler,")


def test_harmful_texts_are_texts(opened):
    page = opened.page
    assert EVIL_NAME in opened.column("sampler")
    page.select_option("#lines", "seeds")
    page.select_option("#lines", "range")
    assert page.evaluate("document.querySelectorAll('img[src=x], b[onclick], main script').length") == 0
    assert page.evaluate("document.querySelectorAll('script').length") == 3
    assert opened.trouble == []
    # A script that got in all the same would not run: the policy knows the page's own by their hashes.
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.got_in = 1'}))"
    )
    assert page.evaluate("window.got_in") is None
    opened.trouble.clear()


def test_it_prints_in_light_and_within_the_paper(opened):
    page = opened.page
    page.emulate_media(media="print", color_scheme="dark")
    page.set_viewport_size({"width": 1030, "height": 700})
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("document.querySelector('.plot').data.find(trace => !trace.fill).line.color") == "#000000"
    assert page.evaluate("document.documentElement.scrollWidth") <= 1030
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen", color_scheme="light")
    page.set_viewport_size({"width": 1280, "height": 900})


def test_the_theme_follows_the_system_and_the_switch(opened):
    page = opened.page
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(paper)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(paper)
    assert dark != light
    # The black curve of `full` would not be seen.
    color = "document.querySelector('.plot').data.find(trace => trace.name === 'full' && !trace.fill).line.color"
    end = time.monotonic() + 60
    # Not `wait_for_function`, which evaluates text in the page: its content security policy forbids that.
    while page.evaluate(color) == "#000000":
        assert time.monotonic() < end
        page.wait_for_timeout(20)
    page.click("#theme")
    assert page.evaluate(paper) == light
    assert page.evaluate(color) == "#000000"
    page.emulate_media(color_scheme="light")


def test_nothing_is_wider_than_a_phone(browser, report):
    opened = Opened(browser, report, viewport={"width": 380, "height": 800}, has_touch=True, is_mobile=True)
    for scheme in ("light", "dark"):
        opened.page.emulate_media(color_scheme=scheme)
        assert opened.page.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [380, 380]
    assert opened.trouble == []
    opened.context.close()
