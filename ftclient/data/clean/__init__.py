"""Cleaning: each step by name, each change itemised, the result in a new file.

from ftclient.data.clean import SAFE_STEPS, clean_file
cleaned = clean_file("mails.jsonl", to="clean.jsonl", steps=[*SAFE_STEPS, "width", "redact"], fix=True)
print(cleaned)
"""

from ftclient.data.clean.changes import Change
from ftclient.data.clean.files import CleanedFile, clean_file
from ftclient.data.clean.mend import MENDABLE, mend
from ftclient.data.clean.steps import SAFE_STEPS, STEPS, Cleaned, Cleaner, Cleaning

__all__ = [
    "MENDABLE",
    "SAFE_STEPS",
    "STEPS",
    "Change",
    "Cleaned",
    "CleanedFile",
    "Cleaner",
    "Cleaning",
    "clean_file",
    "mend",
]
