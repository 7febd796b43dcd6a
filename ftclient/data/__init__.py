"""Training data before it goes over the wire: read, check, count, prepare.

report = Dataset.read("support.jsonl").check(model="gpt-4.1-mini")
print(report.ok, report.stats["tokens"])
report.fixes(to="support.fixed.jsonl")
"""

from ftclient.data.check import check_examples, check_file
from ftclient.data.dataset import Dataset, detect_format
from ftclient.data.limits import LOCAL_LIMITS, OPENAI_LIMITS, Limits
from ftclient.data.report import Issue, Report

__all__ = [
    "LOCAL_LIMITS",
    "OPENAI_LIMITS",
    "Dataset",
    "Issue",
    "Limits",
    "Report",
    "check_examples",
    "check_file",
    "detect_format",
]
