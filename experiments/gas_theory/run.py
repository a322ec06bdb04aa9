"""GNNAutoScale's error by layer against staleness and its bound, measured while a GCN trains on a real graph.

python experiments/gas_theory/run.py --data-dir DIR --out experiments/gas_theory      # 3 minutes on one core

How old histories get is set by how many of the 40 parts a batch has: an epoch writes all rows once, and no evaluation
refreshes them. Every setting starts from the same model, after 100 steps of full batch, and takes as many steps.
"""

import argparse
import copy
import itertools
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch

import gnnscale as gs
from gnnscale.compare.figure import draw_grid, label_logarithmic, new_figure, write_png

PARTS, PARTS_A_BATCH = 40, (20, 10, 5, 2, 1)
LAYERS, HIDDEN = 4, 16
COLORS = ("#0072B2", "#E69F00", "#D55E00")  # Okabe and Ito's


def trained(data: gs.Dataset, dropout: float, seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    model = gs.nn.GCN(data.num_features, HIDDEN, data.num_classes, num_layers=LAYERS, dropout=dropout)
    gs.train(model, data, gs.samplers.FullSampler(), epochs=100)
    return model


def measure(
    model: torch.nn.Module, data: gs.Dataset, partition: str, batch_size: int, *, lr: float, seed: int, steps: int
) -> Iterator[dict[str, Any]]:
    """Go on training with GNNAutoScale; the errors of all layers, at three moments of the last third of the steps."""
    torch.manual_seed(seed)
    history = gs.HistoryStore(data.num_nodes)
    gs.infer(model, data, history=history)
    sampler = gs.samplers.GASSampler(PARTS, partition=partition)
    loader = gs.DataLoader(
        data.graph, data.train_ids, sampler, batch_size=batch_size, shuffle=True, seed=seed, history=history
    )
    optimizer = torch.optim.Adam(model.parameter_groups(5e-4), lr=lr)
    batches = itertools.chain.from_iterable(iter(lambda: loader, None))  # epoch after epoch
    for step, batch in enumerate(itertools.islice(batches, steps), start=1):
        model.train()
        optimizer.zero_grad()
        batch.loss(model(batch, batch.x)).backward()
        optimizer.step()
        if steps - step in (0, steps // 6, 2 * (steps // 6)):
            yield from map(asdict, gs.approximation_error(model, data, history))


def draw(frame: pd.DataFrame, path: Path, title: str) -> None:
    """Error and bounds by layer against the rows' age, and the outputs' error with and without dropout."""
    figure = new_figure(12.0, 4.2)
    panels = by_layer, without, with_dropout = figure.subplots(1, 3)
    for panel in panels:
        panel.set_xscale("log")
        panel.set_yscale("log")
    one = frame[(frame.lr == frame.lr.max()) & (frame.dropout == 0) & (frame.partition == "metis")]
    ages = list(one[one.layer == 1].staleness)
    for layer, color in zip(range(2, LAYERS + 1), COLORS, strict=True):
        rows = one[one.layer == layer]
        name = "outputs" if layer == LAYERS else f"layer {layer}"
        by_layer.plot(ages, rows.theorem, ":", color=color)
        by_layer.plot(ages, rows.bound_mean, "--", color=color)
        by_layer.plot(ages, rows.error_mean, "o-", color=color, markersize=4, label=name)
    for style, name in ((":", "theorem 2"), ("--", "bound by node"), ("-", "measured")):
        by_layer.plot([], [], style, color="#666666", label=name)
    by_layer.set_ylabel("‖h̃ − h‖, mean over nodes (theorem: largest)")
    by_layer.set_title(f"METIS, learning rate {one.lr.max():g}, dropout 0", fontsize=10)
    by_layer.set_ylim(bottom=one[one.layer == 2].error_mean.min() / 30)  # room for the legend

    for panel, dropout in ((without, 0.0), (with_dropout, 0.5)):
        for (partition, lr), rows in frame[frame.dropout == dropout].groupby(["partition", "lr"], sort=False):
            outputs, first = rows[rows.layer == LAYERS], rows[rows.layer == 1]
            color, marker = (COLORS[0], "o") if partition == "metis" else (COLORS[2], "s")
            name = f"{'METIS' if partition == 'metis' else partition}, learning rate {lr:g}"
            style = "-" if lr == frame.lr.max() else "--"
            panel.plot(
                first.staleness, 100 * outputs.relative, style, color=color, marker=marker, markersize=4, label=name
            )
        panel.set_ylabel("relative error of the outputs, %")
        panel.set_title(f"dropout {dropout:g}", fontsize=10)
    with_dropout.sharey(without)
    without.autoscale()
    for panel in panels:
        label_logarithmic(panel.xaxis)
        panel.set_xlabel("steps since the rows were written, mean")
        panel.legend(fontsize=7, loc="lower right", ncols=2 if panel is by_layer else 1)
        draw_grid(panel)
    for panel in (without, with_dropout):
        label_logarithmic(panel.yaxis)
    figure.suptitle(title, fontsize=11)
    write_png(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="cora")
    parser.add_argument("--data-dir")
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=90)
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = gs.load(args.dataset, data_dir=args.data_dir)

    names = ["dropout", "lr", "partition", "parts_a_batch"]
    rows = []
    for dropout, seed in itertools.product((0.0, 0.5), range(args.seeds)):
        model = trained(data, dropout, seed)
        for lr, partition, batch_size in itertools.product((0.01, 0.001), ("metis", "random"), PARTS_A_BATCH):
            setting = dict(zip(names, (dropout, lr, partition, batch_size), strict=True))
            start = copy.deepcopy(model)
            measured = measure(start, data, partition, batch_size, lr=lr, seed=seed, steps=args.steps)
            rows += [{**setting, **row} for row in measured]
    # The moments and seeds of a setting are one point.
    frame = pd.DataFrame(rows).groupby([*names, "layer"], sort=False).mean().reset_index()
    args.out.mkdir(parents=True, exist_ok=True)
    frame.to_csv(args.out / "errors.csv", index=False, float_format="%.4g")
    draw(frame, args.out / "errors.png", f"GNNAutoScale's error, GCN of {LAYERS} layers on {args.dataset}")


if __name__ == "__main__":
    main()
