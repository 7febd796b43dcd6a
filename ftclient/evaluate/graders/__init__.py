"""OpenAI's graders, run here: a grader and an answer in, a reward out. Asks no host by itself."""

from ftclient.evaluate.graders.asked import Ask, ModelQuestion, ModelReply
from ftclient.evaluate.graders.grading import Grade, Means, grade, passes
from ftclient.evaluate.graders.kinds import (
    Grader,
    LabelModel,
    Multi,
    PythonGrader,
    ScoreModel,
    parse_grader,
    read_grader,
)
from ftclient.evaluate.graders.sandbox import Limits, require_sandbox
from ftclient.evaluate.graders.templates import Sample

__all__ = [
    "Ask",
    "Grade",
    "Grader",
    "LabelModel",
    "Limits",
    "Means",
    "ModelQuestion",
    "ModelReply",
    "Multi",
    "PythonGrader",
    "Sample",
    "ScoreModel",
    "grade",
    "parse_grader",
    "passes",
    "read_grader",
    "require_sandbox",
]
