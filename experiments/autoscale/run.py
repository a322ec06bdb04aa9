"""The two models under every sampler, with one added line.

``python experiments/autoscale/run.py [--data-dir DIR]`` prints the table of the README.
"""

import argparse
from dataclasses import replace

import dgl
import torch
from models import GAT, SAGE

import gnnscale as gs
from gnnscale.samplers import SAMPLERS, make_sampler

EPOCHS = 50
MODELS = {"GraphSAGE": (SAGE, 64, 0.01), "GAT": (GAT, 8, 0.005)}


def accuracy(model_class, hidden, lr, data, sampler_name):
    """Test accuracy in percent at the first best validation epoch, or the reason why there is none."""
    torch.manual_seed(0)
    model = model_class(data.num_features, hidden, data.num_classes)
    model = gs.autoscale(model)  # the added line
    sampler = make_sampler(sampler_name, num_layers=2, num_nodes=data.num_nodes)
    try:
        result = gs.train(model, data, sampler, epochs=EPOCHS, lr=lr)
    except ValueError as error:
        return "refused" if "norm" in str(error) else str(error)
    return f"{100 * result.best.test:.1f}"


def main():
    """Print a row a sampler."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-dir")
    torch.set_num_threads(1)
    data = gs.load("cora", data_dir=parser.parse_args().data_dir)
    data = replace(data, graph=dgl.add_self_loop(data.graph))
    print(f"| sampler | {' | '.join(MODELS)} |\n|---|---|---|", flush=True)
    for name in SAMPLERS:
        cells = [accuracy(*model, data, name) for model in MODELS.values()]
        print(f"| `{name}` | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
