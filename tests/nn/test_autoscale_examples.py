"""The models of DGL's examples, as experiments/autoscale has them, under every sampler."""

import runpy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional

import gnnscale as gs
from gnnscale._dgl import dgl
from gnnscale.data import load
from gnnscale.samplers import SAMPLERS, make_sampler

EXAMPLES = runpy.run_path(str(Path(__file__).resolve().parents[2] / "experiments" / "autoscale" / "models.py"))


@pytest.fixture(scope="module")
def data():
    made = load("synthetic", num_nodes=300, num_edges=3000, num_classes=4, signal=0.5, train_fraction=0.5)
    graph = dgl.add_self_loop(made.graph)  # as the example of GAT wants
    graph.ndata["feat"] = functional.normalize(graph.ndata["feat"])
    return replace(made, graph=graph)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("name", ["SAGE", "GAT"])
def test_they_train(data, name, sampler):
    torch.manual_seed(0)
    model = gs.autoscale(EXAMPLES[name](data.num_features, 8, data.num_classes))
    made = make_sampler(sampler, num_layers=2, num_nodes=data.num_nodes)
    if name == "GAT" and sampler in ("vrgcn", "asgcn"):
        with pytest.raises(ValueError, match=r"GATConv .* norm"):
            gs.train(model, data, made, epochs=1)
        return
    result = gs.train(model, data, made, epochs=15, lr=0.03)
    assert result.best.val > 0.5  # chance is a quarter
