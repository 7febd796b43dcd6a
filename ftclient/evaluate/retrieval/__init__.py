"""Finding the passages of one's own documents that answer a question: no training, an index on disk."""

from ftclient.evaluate.retrieval.index import Changes, Hit, Index
from ftclient.evaluate.retrieval.prompt import cited, with_passages
from ftclient.evaluate.retrieval.ranking import Ranking, measure

__all__ = ["Changes", "Hit", "Index", "Ranking", "cited", "measure", "with_passages"]
