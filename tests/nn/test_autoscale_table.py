"""Every convolution under every sampler, and the table of them in docs/autoscale.md.

``GNNSCALE_WRITE_DOCS=1 python -m pytest tests/nn/test_autoscale_table.py`` writes the table anew.
"""

import os
import re
import warnings
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

import gnnscale as gs
from gnnscale._dgl import dgl
from gnnscale.csc import CSC
from gnnscale.loader import DataLoader
from gnnscale.samplers import SAMPLERS, make_sampler
from tests.conftest import make_graph
from tests.nn.dgl_convs import CONVS, Stack, num_layers

PAGE = Path(__file__).resolve().parents[2] / "docs" / "autoscale.md"
START, END = "<!-- the table, written by tests/nn/test_autoscale_table.py -->", "<!-- the end of the table -->"
REFUSED = "–"

ATTENTION = {"GATConv", "GATv2Conv"}
DRAWN = {"SAGEConv pool", "SAGEConv lstm", "GINConv max", "PNAConv"}
OTHERS = {
    "another one, affine": lambda a, b: MeanConv(a, b),
    "another one": lambda a, b: dgl.nn.EdgeConv(a, b, allow_zero_in_degree=True),
}


class MeanConv(nn.Module):
    """A convolution that gnnscale knows nothing of."""

    def __init__(self, in_size, out_size):
        super().__init__()
        self.linear = nn.Linear(in_size, out_size)

    def forward(self, block, x):
        with block.local_scope():
            block.srcdata["h"] = self.linear(x)
            block.update_all(dgl.function.copy_u("h", "m"), dgl.function.mean("m", "mean"))
            return block.dstdata["mean"]


def scaled(name):
    make = {**CONVS, **OTHERS}[name]
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return gs.autoscale(Stack(make, 5, 4, 3), convs=[MeanConv])


@cache
def cells():
    """What each convolution computes under each sampler, after a step that has run; and the sentences of refusals."""
    graph, cells, sentences, samplers = make_graph(), {}, {}, {}
    for name in [*CONVS, *OTHERS]:
        for sampler_name in SAMPLERS:
            model = scaled(name)
            key = sampler_name, num_layers(model)
            if key not in samplers:  # they count subgraphs and make partitions once
                drawn = {"sizes": [12] * key[1]} if sampler_name in ("fastgcn", "ladies", "asgcn") else {}
                samplers[key] = make_sampler(sampler_name, num_layers=key[1], num_nodes=60, **drawn)
            sampler = samplers[key]
            loader = DataLoader(graph, torch.arange(60), sampler, batch_size=10)
            batch = next(iter(loader))
            try:
                loss = batch.loss(model(batch, batch.x))
            except ValueError as error:
                cells[name, sampler_name] = REFUSED
                sentences.setdefault(sampler_name, str(error))
                continue
            loss.backward()
            assert loss.isfinite(), (name, sampler_name)
            for key, parameter in model.named_parameters():
                assert parameter.grad is not None, (name, sampler_name, key)
                assert parameter.grad.isfinite().all(), (name, sampler_name, key)
            cells[name, sampler_name] = estimate(name, sampler, takes_all(batch, num_layers(model)))
    return cells, sentences


def takes_all(batch, depth):
    """Whether each layer has all in-edges of its destinations."""
    in_degrees = CSC.of(batch.graph).indptr.diff()
    return all(
        torch.equal(adjacency.hop.indptr.diff().long(), in_degrees[batch.input_nodes[: adjacency.num_dst]])
        for adjacency in batch.sample.spread(depth)
    )


def estimate(name, sampler, takes_all):
    """What a convolution makes of a sampler's estimate of sums."""
    of_sums = "exact" if takes_all and sampler.estimate != "subgraph" else sampler.estimate
    if of_sums in ("exact", "subgraph"):
        return of_sums
    if name in ATTENTION:
        return {"unbiased": "ratio"}.get(of_sums, of_sums)
    if name in OTHERS:
        return "drawn, corrected" if sampler.keeps_history else "drawn"
    return "drawn" if name in DRAWN else of_sums


def table():
    """The page's table: samplers that agree in everything share a column."""
    found, sentences = cells()
    names = [*CONVS, *OTHERS]
    columns = {}
    for sampler in SAMPLERS:
        columns.setdefault(tuple(found[name, sampler] for name in names), []).append(sampler)
    head = ["convolution", "layers", *(" ".join(f"`{sampler}`" for sampler in group) for group in columns.values())]
    lines = [head, ["---"] * len(head)]
    for number, name in enumerate(names):
        layers = "k" if name in ("SGConv", "TAGConv", "APPNPConv") else "1"
        cls, _, option = name.partition(" ")
        shown = name if name in OTHERS else f"`{cls}`" + (f" {option}" if option else "")
        lines.append([shown, layers, *(column[number] for column in columns)])
    refusals = [f"- `{sampler}`: “{sentence}”" for sampler, sentence in sentences.items()]
    rows = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([*rows, "", "What is refused (–), with an example each:", "", *refusals])


def test_the_page_has_the_table():
    written = f"{START}\n\n{table()}\n\n{END}"
    text = PAGE.read_text(encoding="utf-8")
    part = re.compile(f"{re.escape(START)}.*{re.escape(END)}", re.DOTALL)
    if os.environ.get("GNNSCALE_WRITE_DOCS"):
        PAGE.write_text(part.sub(lambda match: written, text), encoding="utf-8")
        return
    assert part.search(text).group() == written, "write it anew: GNNSCALE_WRITE_DOCS=1"


def test_refusals_say_what_works():
    _, sentences = cells()
    assert set(sentences) == {"vrgcn", "asgcn"}
    for sentence in sentences.values():
        assert re.search(r"use .*(gas|neighbor|LADIESSampler)", sentence), sentence


@pytest.mark.parametrize("name", ["GraphConv", "SAGEConv mean", "GATConv", "APPNPConv"])
def test_what_the_table_calls_exact_is(name):
    """With all neighbours at hand, where the table says "exact", rows are those of DGL on the whole graph."""
    found, _ = cells()
    graph = make_graph()
    for sampler_name in SAMPLERS:
        if found[name, sampler_name] != "exact":
            continue
        model = scaled(name).eval()
        wanted = gs.infer(model, graph)
        options = {"partition": "random"} if sampler_name in ("gas", "lmc", "graphfm") else {}
        options |= {"beta": 0.0} if sampler_name in ("lmc", "graphfm") else {}
        sampler = make_sampler(sampler_name, num_layers=num_layers(model), num_nodes=60, **options)
        loader = DataLoader(graph, torch.arange(60), sampler, batch_size=10)
        if loader.history is not None:
            gs.infer(model, graph, history=loader.history)
        for batch in loader:
            rows = model(batch, batch.x).detach()
            torch.testing.assert_close(rows, wanted[batch.output_nodes], rtol=1e-5, atol=1e-5)
            if loader.history is not None:
                gs.infer(model, graph, history=loader.history)
