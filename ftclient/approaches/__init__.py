"""Was tuning the right answer? The same test questions by prompting, retrieval, transfer learning and fine-tuning."""

from ftclient.approaches.audience import Audience
from ftclient.approaches.compare import compare
from ftclient.approaches.learning_curve import LearningCurve, learning_curve
from ftclient.approaches.outcome import Outcome, Outcomes
from ftclient.approaches.verdict import Verdict
from ftclient.approaches.wishes import ApproachName, Wishes

__all__ = [
    "ApproachName",
    "Audience",
    "LearningCurve",
    "Outcome",
    "Outcomes",
    "Verdict",
    "Wishes",
    "compare",
    "learning_curve",
]
