"""Histories: the last known hidden rows of every node, in memory of any kind, read and written asynchronously."""

from gnnscale.history.features import FeatureStore
from gnnscale.history.store import HistoryStore, Pull
from gnnscale.history.traffic import Traffic

__all__ = ["FeatureStore", "HistoryStore", "Pull", "Traffic"]
