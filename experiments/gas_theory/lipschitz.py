"""What the local Lipschitz penalty of GNNAutoScale's GIN example changes, as a Markdown table.

python experiments/gas_theory/lipschitz.py --data-dir DIR      # a minute on one core
"""

import argparse
import math
import statistics

import torch

import gnnscale as gs


def run(data: gs.Dataset, weight: float, norm: str | None, seed: int) -> tuple[float, float, float, float]:
    """Validation accuracy, product of the Lipschitz constants, and the outputs' error, in length and relative."""
    torch.manual_seed(seed)
    model = gs.nn.GIN(
        data.num_features, 32, data.num_classes, num_layers=4, dropout=0.0, norm=norm, lipschitz=weight
    )  # fmt: skip
    history = gs.HistoryStore(data.num_nodes)
    sampler = gs.samplers.GASSampler(40, refresh=False)
    gs.train(
        model, data, sampler, epochs=25, batch_size=10, lr=0.002, clip_norm=1.0, seed=seed, history=history
    )  # fmt: skip
    outputs = gs.approximation_error(model, data, history)[-1]
    constant = math.prod(layer.neighbors for layer in gs.nn.lipschitz_constants(model)[1:])
    return 100 * gs.evaluate(model, data)["val"], constant, outputs.error_mean, 100 * outputs.relative


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="cora")
    parser.add_argument("--data-dir")
    parser.add_argument("--norm", choices=["batch", "layer"])
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = gs.load(args.dataset, data_dir=args.data_dir)
    print("| weight | validation, % | product of constants | error of the outputs | relative, % |")
    print("|---|---|---|---|---|")
    for weight in (0.0, 1.0, 5.0):
        columns = zip(*(run(data, weight, args.norm, seed) for seed in range(args.seeds)), strict=True)
        cells = (f"{statistics.mean(values):.3g} ± {statistics.stdev(values):.2g}" for values in columns)
        print(f"| {weight:g} |", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
