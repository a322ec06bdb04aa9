"""Histories: the last known hidden rows of every node."""

from gnnscale.history.store import HistoryStore, Pull

__all__ = ["HistoryStore", "Pull"]
