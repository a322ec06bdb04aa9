"""Processor time for outputs of ten nodes from histories, and for exact ones of all nodes, on graphs of growing size.

python experiments/gas_theory/constant_time.py      # half a minute on one core
"""

from collections.abc import Callable
from time import process_time

import torch

import gnnscale as gs


def best(call: Callable[[], object], repeats: int) -> float:
    seconds = []
    for _ in range(repeats):
        start = process_time()
        call()
        seconds.append(process_time() - start)
    return min(seconds)


def measure(num_nodes: int) -> tuple[float, float]:
    """Seconds for ten nodes and for all."""
    data = gs.load("synthetic", num_nodes=num_nodes, num_edges=10 * num_nodes)
    model = gs.nn.GCN(data.num_features, 64, data.num_classes, num_layers=3)
    history = gs.HistoryStore(num_nodes)
    exact = best(lambda: gs.infer(model, data, history=history), 2)
    return best(lambda: gs.infer_from_history(model, data, history, torch.arange(10) * 7), 50), exact


def main() -> None:
    torch.set_num_threads(1)
    print("| nodes | ten nodes from histories, ms | all nodes, exact, s |\n|---|---|---|")
    for num_nodes in (20_000, 100_000, 500_000):
        quick, exact = measure(num_nodes)
        print(f"| {num_nodes:,} | {1e3 * quick:.1f} | {exact:.2f} |")


if __name__ == "__main__":
    main()
