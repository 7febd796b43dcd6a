"""Tuned classifiers on disk.

Where transformers has a class that pools as this classifier does (image models, BERT with its pooler, causal models),
the folder is one that it loads as a classifier. Sentence encoders that take the mean of their tokens have none: the
folder then holds the encoder, and the last layer in a file of its own. `README.md` in the folder says which.

    classifier.json            labels, pooling, base model
    last_layer.safetensors     weight (labels, features) and bias, with the temperature in them
    model.safetensors          and config.json, tokenizer or image processor: as transformers writes them
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from local_backend.engine.classify.body import ImageBody, load_body, put_layer
from local_backend.engine.classify.classifier import Classifier
from local_backend.engine.classify.kinds import Pooling, kind_of
from local_backend.engine.classify.labels import Labels
from local_backend.engine.device import Machine
from local_backend.engine.quiet import quiet
from local_backend.engine.tuning import merged_for_now
from local_backend.task import JobError, UserError

FORMAT = 1
"""Version of `classifier.json`; another one is refused with words."""
NOTE = "classifier.json"
_LAST_LAYER = "last_layer.safetensors"


@dataclass(frozen=True, kw_only=True)
class Note:
    """What `classifier.json` says."""

    labels: Labels
    pooling: Pooling
    base: str


def is_classifier(folder: Path | None) -> bool:
    """Whether a folder holds a tuned classifier."""
    return folder is not None and (folder / NOTE).is_file()


def save(classifier: Classifier, folder: Path, *, base: str, same_body: Path | None = None) -> None:
    """Write a classifier into an existing folder; `same_body` is an earlier one whose body has the same weights."""
    plain = _calibrated(classifier)
    body, labels = classifier.body, classifier.labels
    _describe(body.model.config, labels)
    with merged_for_now(body.model), quiet():
        is_own = _save_model(classifier, plain, folder, same_body)
    tensors = {name: tensor.detach().contiguous() for name, tensor in plain.state_dict().items()}
    save_file(tensors, folder / _LAST_LAYER)
    body.reader.save(folder)
    note = {
        "format": FORMAT,
        "labels": list(labels.names),
        "multi_label": labels.is_multi,
        "modality": body.kind.modality,
        "pooling": body.kind.pooling,
        "base": base,
        "temperature": classifier.temperature,
        "loads_with": "ftclient" if is_own else "transformers",
    }
    (folder / NOTE).write_text(json.dumps(note, indent=1, ensure_ascii=False), encoding="utf-8")
    (folder / "README.md").write_text(_read_me(note), encoding="utf-8")


def read_note(folder: Path) -> Note:
    """Return what a classifier's folder says about it.

    Raises:
        UserError: Another version wrote it.
    """
    found = json.loads((folder / NOTE).read_text(encoding="utf-8"))
    if found.get("format") != FORMAT:
        text = f"The classifier has format {found.get('format')}, this version reads {FORMAT}. Train it anew."
        raise UserError(text, param="model", code="model_not_supported")
    labels = Labels(names=tuple(found["labels"]), is_multi=found["multi_label"])
    return Note(labels=labels, pooling=found["pooling"], base=found["base"])


def read_labels(folder: Path) -> Labels | None:
    """The labels of a tuned classifier; None for other models."""
    return read_note(folder).labels if is_classifier(folder) else None


def load(folder: Path, *, machine: Machine) -> Classifier:
    """Load a tuned classifier to answer with.

    Raises:
        UserError: It can't be loaded.
    """
    note = read_note(folder)
    kind = kind_of(folder, task="classify")
    if kind is None:
        raise UserError("This folder is no classifier.", param="model", code="model_not_supported")
    try:
        body = load_body(folder, replace(kind, pooling=note.pooling), machine=machine)
    except JobError as error:
        raise UserError(error.message, param="model", code=error.code) from error
    body.model.requires_grad_(requires_grad=False)
    classifier = Classifier(body, note.labels, has_bias="bias" in load_file(folder / _LAST_LAYER))
    restore_last_layer(classifier, folder)
    return classifier


def restore_last_layer(classifier: Classifier, folder: Path) -> None:
    """Start from the last layer of a tuned classifier; labels that it does not know start at nothing."""
    tensors = load_file(folder / _LAST_LAYER)
    n_known, width = tensors["weight"].shape
    weight_LW = torch.zeros(len(classifier.labels.names), width, dtype=tensors["weight"].dtype)
    bias_L = torch.zeros(len(weight_LW), dtype=weight_LW.dtype)
    weight_LW[:n_known] = tensors["weight"]
    if "bias" in tensors:
        bias_L[:n_known] = tensors["bias"]
    classifier.set_last_layer(weight_LW, bias_L)


def _calibrated(classifier: Classifier) -> nn.Linear:
    """The last layer on plain features, with the temperature in it: whoever loads it gets calibrated probabilities."""
    plain = classifier.last_layer()
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.div_(classifier.temperature)
    return plain


def _describe(config: Any, labels: Labels) -> None:
    """Write the labels where transformers looks for them."""
    config.id2label = dict(enumerate(labels.names))
    config.label2id = {name: i for i, name in enumerate(labels.names)}
    config.problem_type = "multi_label_classification" if labels.is_multi else "single_label_classification"


def _save_model(classifier: Classifier, plain: nn.Linear, folder: Path, same_body: Path | None) -> bool:
    """Write weights and configuration; True where transformers has no class for it."""
    body = classifier.body
    if isinstance(body, ImageBody):
        put_layer(body.model, body.last_layer_name, plain)
        body.model.save_pretrained(folder)
        put_layer(body.model, body.last_layer_name, nn.Identity())
        return False
    is_theirs = body.kind.pooling == "pooler" or body.kind.is_causal  # their classes of other encoders pool otherwise
    if is_theirs and _save_as_transformers(body.model, plain, folder):
        return False
    if same_body is not None:
        _link(same_body / "model.safetensors", folder / "model.safetensors")
        body.model.config.save_pretrained(folder)
    else:
        body.model.save_pretrained(folder, max_shard_size="1TB")
    return True


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)


def _save_as_transformers(model: Any, plain: nn.Linear, folder: Path) -> bool:
    """Write what transformers' class for this architecture loads; False where it has none."""
    from transformers import AutoModelForSequenceClassification

    cls = AutoModelForSequenceClassification._model_mapping.get(type(model.config), None)  # noqa: SLF001 - no other way to ask
    if cls is None:
        return False
    name = "score" if model.config.model_type not in _CLASSIFIER_NAMED else "classifier"
    tensors = {f"{cls.base_model_prefix}.{key}": value for key, value in model.state_dict().items()}
    tensors |= {f"{name}.{key}": value for key, value in plain.state_dict().items()}
    save_file(
        {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    model.config.architectures = [cls.__name__]
    model.config.pad_token_id = model.config.pad_token_id or 0
    model.config.save_pretrained(folder)
    return True


_CLASSIFIER_NAMED = frozenset({"bert", "ernie", "megatron-bert", "roc_bert"})
"""Architectures whose class calls its last layer `classifier`; causal ones call it `score`."""


def _read_me(note: dict[str, Any]) -> str:
    labels = len(note["labels"])
    head = f"# Classifier of {note['modality']}s, {labels} labels\n\nTuned from `{note['base']}` with ftclient.\n\n"
    if note["loads_with"] == "transformers":
        auto = (
            "AutoModelForImageClassification" if note["modality"] == "image" else "AutoModelForSequenceClassification"
        )
        return head + f"`transformers.{auto}.from_pretrained` loads this folder.\n"
    return head + (
        "The encoder in this folder loads with `transformers.AutoModel`. Its features are pooled by "
        f"`{note['pooling']}` over the tokens of a text, which no classifier of transformers does. So the last "
        "layer is in `last_layer.safetensors`: logits = features @ weight.T + bias, in the order of `labels` in "
        "`classifier.json`.\n"
    )
