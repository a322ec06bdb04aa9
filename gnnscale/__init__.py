"""gnnscale: every way of scaling graph neural network training, interchangeable and measured on equal footing.

>>> import gnnscale as gs
>>> data = gs.load("synthetic", num_nodes=1000, num_edges=10_000)
>>> loader = gs.DataLoader(data.graph, data.train_ids, gs.samplers.NeighborSampler([5, 5]), batch_size=64)
>>> model = gs.nn.GCN(data.num_features, 16, data.num_classes)
>>> losses = [batch.loss(model(batch, batch.x)).item() for batch in loader]
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gnnscale._version import __version__

if TYPE_CHECKING:
    from gnnscale import data, history, nn, ops, samplers
    from gnnscale.approximation import approximation_error
    from gnnscale.batch import Layer, MiniBatch
    from gnnscale.compare.results import read_results
    from gnnscale.data import Dataset, load
    from gnnscale.evaluation import evaluate, infer
    from gnnscale.freed_memory import keep_freed_memory
    from gnnscale.from_history import infer_from_history
    from gnnscale.history import FeatureStore, HistoryStore
    from gnnscale.loader import DataLoader
    from gnnscale.nn.autoscale import autoscale
    from gnnscale.training import train

# Where each public name lives. They are imported when first used, so that `import gnnscale` costs
# milliseconds and not the seconds that torch and DGL need.
_HOMES = {
    "DataLoader": "gnnscale.loader",
    "Dataset": "gnnscale.data",
    "FeatureStore": "gnnscale.history",
    "HistoryStore": "gnnscale.history",
    "Layer": "gnnscale.batch",
    "MiniBatch": "gnnscale.batch",
    "approximation_error": "gnnscale.approximation",
    "autoscale": "gnnscale.nn.autoscale",
    "evaluate": "gnnscale.evaluation",
    "infer": "gnnscale.evaluation",
    "infer_from_history": "gnnscale.from_history",
    "keep_freed_memory": "gnnscale.freed_memory",
    "load": "gnnscale.data",
    "read_results": "gnnscale.compare.results",
    "train": "gnnscale.training",
}
_PACKAGES = ("data", "history", "nn", "ops", "samplers", "testing")

__all__ = [
    "DataLoader",
    "Dataset",
    "FeatureStore",
    "HistoryStore",
    "Layer",
    "MiniBatch",
    "__version__",
    "approximation_error",
    "autoscale",
    "data",
    "evaluate",
    "history",
    "infer",
    "infer_from_history",
    "keep_freed_memory",
    "load",
    "nn",
    "ops",
    "read_results",
    "samplers",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return import_module(f"gnnscale.{name}")
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'gnnscale' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
