"""The graphs that the benchmarks run on: made once, and kept in the cache folder."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import gnnscale as gs
from gnnscale._dgl import dgl
from gnnscale.cache import cache_dir

Arrays = dict[str, np.ndarray]


def power_law(num_nodes: int, num_edges: int, *, both_ways: bool = False) -> tuple[Tensor, Tensor]:
    """In-edges, as pointers (int64) and sources (int32), of a graph with a power law of degrees.

    Both ends of an edge are drawn with a probability that falls as rank ** -0.5, the ranks shuffled. With ``both_ways``
    every edge is there in both directions.
    """

    def make() -> Arrays:
        random = np.random.default_rng(0)
        shuffled = random.permutation(num_nodes)
        count = num_edges // 2 if both_ways else num_edges
        # One number for each edge, destination first: sorted, they are the in-edges.
        keys = np.empty(num_edges, dtype=np.int64)
        for start in range(0, count, 1 << 22):
            stop = min(count, start + (1 << 22))
            source, target = shuffled[(num_nodes * random.random((2, stop - start)) ** 2).astype(np.int64)]
            keys[start:stop] = target * num_nodes + source
            if both_ways:
                keys[count + start : count + stop] = source * num_nodes + target
        keys.sort()
        sources = np.empty(num_edges, dtype=np.int32)
        counts = np.zeros(num_nodes, dtype=np.int64)
        for start in range(0, num_edges, 1 << 22):
            part = keys[start : start + (1 << 22)]
            sources[start : start + len(part)] = part % num_nodes
            counts += np.bincount(part // num_nodes, minlength=num_nodes)
        return {"indptr": np.concatenate([[0], counts.cumsum()]), "indices": sources}

    arrays = kept(f"power-law-{num_nodes}-{num_edges}{'-both' if both_ways else ''}", make)
    return torch.from_numpy(arrays["indptr"]), torch.from_numpy(arrays["indices"])


def dgl_graph(indptr: Tensor, indices: Tensor) -> dgl.DGLGraph:
    """DGL's graph of these in-edges, in the format that its samplers read."""
    return dgl.graph(("csc", (indptr, indices.long(), torch.empty(0, dtype=torch.int64))), num_nodes=len(indptr) - 1)


def communities(num_nodes: int, num_edges: int, num_features: int) -> gs.Dataset:
    """gnnscale's block model, 85 % of the edges inside 100 communities, which METIS finds; one node in ten trains."""
    name = f"communities-85-{num_nodes}-{num_edges}-{num_features}"

    def make() -> Arrays:
        size = {"num_nodes": num_nodes, "num_edges": num_edges, "num_features": num_features}
        data = gs.load("synthetic", in_community=0.85, in_class=0.05, **size)
        source, target = data.graph.edges()
        return {
            "source": source.int().numpy(),
            "target": target.int().numpy(),
            "feat": data.graph.ndata["feat"].numpy(),
            "label": data.graph.ndata["label"].numpy(),
            **{part: getattr(data, f"{part}_ids").numpy() for part in ("train", "val", "test")},
        }

    arrays = {key: torch.from_numpy(array) for key, array in kept(name, make).items()}
    graph = dgl.graph((arrays["source"].long(), arrays["target"].long()), num_nodes=num_nodes)
    graph.ndata["feat"], graph.ndata["label"] = arrays["feat"], arrays["label"]
    ids = (arrays["train"], arrays["val"], arrays["test"])
    return gs.Dataset("communities", graph, *ids, num_classes=10, metric="accuracy")


def kept(name: str, make: Callable[[], Arrays]) -> Arrays:
    """Arrays from the cache, made where they are not there yet."""
    folder = cache_dir() / "speed"
    path = folder / f"{name}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        arrays = make()
        # Written elsewhere and then renamed, so that nobody reads half a file.
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            whole = Path(scratch, path.name)
            np.savez(whole, **arrays)
            os.replace(whole, path)
    with np.load(path) as file:
        return {key: file[key] for key in file.files}
