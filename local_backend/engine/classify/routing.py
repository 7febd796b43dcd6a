"""Whether a job or a question is about a classifier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ftclient.data.decoding import BadImageError
from local_backend.engine.classify import saving
from local_backend.engine.classify.examples import query_of
from local_backend.engine.classify.kinds import Kind, kind_of
from local_backend.engine.classify.labels import DEFAULTS, options_of
from local_backend.engine.classify.readers import Reader, TextReader, reader_of
from local_backend.task import ModelRef, UserError


def classifier_dir(model: ModelRef, base: Path) -> Path | None:
    """The folder of the tuned classifier that a model is; None: it is none."""
    start = model.tuned_dir or base
    return start if saving.is_classifier(start) else None


def training_kind(
    model: ModelRef, base: Path, *, task: str, method: str = "supervised", local: Mapping[str, Any] | None = None
) -> Kind | None:
    """What a job makes of a model: a classifier of this kind, or (None) a chat model.

    Raises:
        UserError: It can't become a classifier, or (`local` are a job's options) something was asked for that only
            becomes of the other.
    """
    start = classifier_dir(model, base)
    if start is not None:
        found = kind_of(start, task="classify")
        kind = None if found is None else replace(found, pooling=saving.read_note(start).pooling)
    else:
        kind = kind_of(base, task=task)
        if kind is not None and model.tuned_dir is not None:
            text = "A tuned chat model can't be made a classifier: start from its base model."
            raise UserError(text, param="model", code="model_not_supported")
    if kind is not None and method != "supervised":
        text = f"A classifier is trained on labels, not by {method!r}: use the method 'supervised'."
        raise UserError(text, param="method.type", code="unsupported_method")
    _refuse_other_options(local or {}, is_classifier=kind is not None)
    return kind


def _refuse_other_options(local: Mapping[str, Any], *, is_classifier: bool) -> None:
    """Refuse what would be left out in silence."""
    if is_classifier and (local.get("evaluation") or {}).get("samples"):
        text = "A classifier writes no answers that could be sampled. Leave `evaluation.samples` out."
        raise UserError(text, param="local.evaluation.samples", code="invalid_value")
    options = options_of(local)
    asked = next((name for name, default in DEFAULTS.items() if options[name] != default), None)
    if asked is not None and not is_classifier:
        text = (
            f"`classify.{asked}` is for classifiers, and this model is tuned to chat. Leave it out, or set `task` to "
            "'classify'."
        )
        raise UserError(text, param=f"local.classify.{asked}", code="invalid_value")


def reader_for(model: ModelRef, base: Path, kind: Kind) -> Reader:
    """What reads examples for a classifier that a model is or becomes."""
    return reader_of(classifier_dir(model, base) or base, kind)


def render(reader: Reader, example: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Show what a classifier reads of an example: its tokens, none of which is trained (the label is no token).

    Raises:
        UserError: The model does not read it.
    """
    *asked, _ = example["messages"]
    try:
        query = query_of(asked)
    except BadImageError as error:
        raise UserError(str(error), param="example", code=error.code) from error
    if not isinstance(reader, TextReader):
        return [{"id": 0, "text": "", "weight": 0.0}] * reader.size(None)
    ids = reader.ids(query.text)
    texts = reader.tokenizer.convert_ids_to_tokens(ids)
    return [{"id": token, "text": text, "weight": 0.0} for token, text in zip(ids, texts, strict=True)]


def refuse_untuned(base: Path) -> None:
    """Refuse to chat with an encoder.

    Raises:
        UserError: The model is an encoder, which answers nothing until it has been tuned.
    """
    kind = kind_of(base)
    if kind is not None:
        text = (
            f"This model is an encoder of {kind.modality}s: it has no labels to answer with until it is tuned. Create "
            "a job with examples whose answers are labels, and ask the model that comes out."
        )
        raise UserError(text, param="model", code="model_not_supported")
