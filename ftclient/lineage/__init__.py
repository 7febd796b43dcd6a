"""Where models come from: their data, parents, settings and scores."""

from ftclient.lineage.scores import scores_of
from ftclient.lineage.store import LineageStore, MadeOf, Scored
from ftclient.lineage.tree import Node, tree_of

__all__ = ["LineageStore", "MadeOf", "Node", "Scored", "scores_of", "tree_of"]
