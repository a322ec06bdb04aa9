"""Builds the models and samplers that a comparison names."""

from __future__ import annotations

from typing import Any

import torch

from gnnscale.compare.plan import Choice
from gnnscale.data import Dataset
from gnnscale.nn import MODELS
from gnnscale.samplers import make_sampler


def build_model(model: Choice, data: Dataset) -> torch.nn.Module:
    """Build a model for a dataset from the settings of a comparison."""
    return build_model_of(model, data.num_features, data.num_classes)


def build_model_of(model: Choice, in_size: int, out_size: int) -> torch.nn.Module:
    """Build a model of these sizes from the settings of a comparison."""
    arguments = dict(model.arguments)
    hidden, norm = arguments.pop("hidden"), arguments.pop("norm")
    return MODELS[model.name](
        in_size, hidden, out_size, num_layers=arguments.pop("layers"),
        norm=None if norm == "none" else norm, **arguments,
    )  # fmt: skip


def build_sampler(sampler: Choice, model: Choice, num_nodes: int) -> Any:
    """Make a sampler for a model and a graph of so many nodes."""
    return make_sampler(
        sampler.name, num_layers=model.arguments["layers"], num_nodes=num_nodes, **sampler.arguments
    )  # fmt: skip


def nodes_seen(training: dict[str, Any], data: Dataset) -> int:
    """Nodes of the graph that training sees."""
    return data.train_ids.numel() if training["inductive"] else data.num_nodes
