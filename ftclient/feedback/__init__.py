"""What users said to answers, kept as it comes, and turned into the next training data."""

from ftclient.feedback.examples import preferences, supervised
from ftclient.feedback.store import Feedback, FeedbackStore, Verdict

__all__ = ["Feedback", "FeedbackStore", "Verdict", "preferences", "supervised"]
