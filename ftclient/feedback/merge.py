"""Feedback written to a file for training, alone or with the examples of another file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ftclient.data import Dataset
from ftclient.data.new_file import new_file
from ftclient.errors import DataError
from ftclient.feedback.examples import preferences, supervised
from ftclient.feedback.store import Feedback, trainable
from ftclient.lineage.store import LineageStore

Kind = Literal["supervised", "preferences"]


@dataclass(frozen=True, kw_only=True)
class Merged:
    """What a file for training was made of."""

    path: Path
    n_examples: int
    n_new: int
    """Examples from feedback."""
    n_replaced: int
    """Examples of the other file that feedback to the same question took the place of."""
    sha256: str

    def to_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return {**vars(self), "path": str(self.path)}


def write(
    home: Path,
    feedback: Sequence[Feedback],
    *,
    kind: Kind,
    to: Path,
    base: Path | None = None,
    overwrite: bool = False,
) -> Merged:
    """Write a file for training, and keep what it was made of.

    Args:
        home: The client's home.
        feedback: Oldest first, as the store gives it.
        kind: `supervised` (what should have been answered) or `preferences` (better and worse, for DPO).
        to: The file.
        base: Examples that go in too; an example with the same question as a piece of feedback is replaced by it.
        overwrite: Replace a file of this name.

    Raises:
        DataError: The feedback makes no examples, or a file cannot be read or written.
    """
    made = (supervised if kind == "supervised" else preferences)(feedback)
    if not made:
        wanted = "good answers or corrections" if kind == "supervised" else "corrections, or good and bad answers"
        raise DataError(f"This feedback makes no examples: {wanted} to the same questions are needed.")
    taken = {_question(example) for example in made}
    held = Dataset.read(base) if base else None
    examples = list(held or ())
    _refuse_mixed(examples, kind, base)
    kept = [example for example in examples if _question(example) not in taken]
    with new_file(to, not_over=base, overwrite=overwrite) as file:
        for example in [*kept, *made]:
            file.write(json.dumps(example, ensure_ascii=False).encode() + b"\n")
    written = Dataset.read(to)
    used = {_asked(example) for example in made}
    ids = [said.id for said in feedback if _messages(said.messages) in used]
    parents = [held.sha256] if held else []
    LineageStore(home).keep_origin(written.sha256, name=to.name, parents=parents, feedback=ids)
    return Merged(
        path=to,
        n_examples=len(kept) + len(made),
        n_new=len(made),
        n_replaced=len(examples) - len(kept),
        sha256=written.sha256,
    )


def _refuse_mixed(examples: Sequence[Mapping[str, Any]], kind: Kind, base: Path | None) -> None:
    """One file trains one method: preferences go with preferences only."""
    for number, example in enumerate(examples, start=1):
        if ("preferred_output" in example) is not (kind == "preferences"):
            what = "a preference" if kind == "supervised" else "no preference"
            other = "preferences" if kind == "supervised" else "supervised"
            raise DataError(f"{base}: example {number} is {what}; it can be merged with --kind {other} only.")


def _question(example: Mapping[str, Any]) -> tuple[str, bool]:
    """Return what an example asks, and whether it is a preference."""
    return _asked(example), "preferred_output" in example


def _asked(example: Mapping[str, Any]) -> str:
    if "input" in example:
        return _messages(example["input"].get("messages") or ())
    return _messages((example.get("messages") or ())[:-1])


def _messages(messages: Sequence[Any]) -> str:
    plain = [trainable(message) if isinstance(message, Mapping) else message for message in messages]
    return json.dumps(plain, sort_keys=True, ensure_ascii=False)
