"""Which base models become classifiers, what they read, and where their last layer takes its input from.

A causal language model is one only where it is asked for; an encoder of texts or images always is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from local_backend.task import UserError

Modality = Literal["text", "image"]
Pooling = Literal["mean", "cls", "pooler", "last", "own"]
"""What the last layer reads: the mean of all tokens, the first token, that through the pooler that was trained with
it, the last token, or (image models) whatever the model's own classifier in transformers reads."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What is known of a base model before its weights are read."""

    modality: Modality
    pooling: Pooling
    model_type: str
    """As transformers names the architecture."""
    context_tokens: int | None
    """The longest text it reads; None: images."""
    is_causal: bool = False


POOLERS = frozenset({"bert", "megatron-bert", "ernie", "roc_bert"})
"""Encoders whose pooler was trained (to tell whether sentences follow each other) and is in their weights."""

ENCODERS = POOLERS | {
    "albert", "camembert", "convbert", "data2vec-text", "deberta", "deberta-v2", "distilbert", "electra", "eurobert",
    "gte", "modernbert", "mpnet", "nomic_bert", "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl",
}  # fmt: skip
"""Text encoders. Those without a trained pooler are pooled by the mean of their tokens."""

IMAGE_MODELS = frozenset(
    {
        "beit",
        "bit",
        "clip_vision_model",
        "convnext",
        "convnextv2",
        "data2vec-vision",
        "deit",
        "dinov2",
        "dinov2_with_registers",
        "efficientnet",
        "focalnet",
        "hiera",
        "mobilenet_v2",
        "mobilevit",
        "poolformer",
        "pvt",
        "regnet",
        "resnet",
        "siglip",
        "siglip_vision_model",
        "swin",
        "swinv2",
        "vit",
        "vit_msn",
    }
)
"""Image encoders that transformers has a classifier for, whose way of pooling is taken over."""

_RESERVED_TOKENS: Mapping[str, int] = dict.fromkeys(
    ("camembert", "data2vec-text", "mpnet", "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl"), 2
)
"""Positions at the start of the table that stand for padding."""


def kind_of(folder: Path, *, task: str = "chat") -> Kind | None:
    """Return what a model's folder becomes when it is tuned for a task; None: it is tuned as chat.

    Raises:
        UserError: It can't be tuned for classification.
    """
    config = read_config(folder)
    model_type = str(config.get("model_type", ""))
    if model_type in IMAGE_MODELS:
        return Kind(modality="image", pooling="own", model_type=model_type, context_tokens=None)
    if model_type in ENCODERS:
        pooling = _sentence_pooling(folder) or ("pooler" if model_type in POOLERS else "mean")
        limit = int(config.get("max_position_embeddings", 512)) - _RESERVED_TOKENS.get(model_type, 0)
        return Kind(modality="text", pooling=pooling, model_type=model_type, context_tokens=limit)
    if task != "classify":
        return None
    if not _is_causal(config):
        text = (
            f"Models of the kind {model_type!r} can't be tuned as classifiers here: use a causal language model, a text"
            " encoder such as BERT, or an image model such as ViT."
        )
        raise UserError(text, param="model", code="model_not_supported")
    limit = int(config.get("max_position_embeddings") or 2**20)
    return Kind(modality="text", pooling="last", model_type=model_type, context_tokens=limit, is_causal=True)


def read_config(folder: Path) -> dict[str, Any]:
    """Return a model's configuration; empty where there is none."""
    path = folder / "config.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def _is_causal(config: Mapping[str, Any]) -> bool:
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    )

    model_type = config.get("model_type")
    return (
        model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        and model_type in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
        and not config.get("is_encoder_decoder")
    )


def _sentence_pooling(folder: Path) -> Pooling | None:
    """How a sentence encoder was pooled when it was trained, in the words of sentence-transformers."""
    path = folder / "1_Pooling" / "config.json"
    if not path.is_file():
        return None
    config = json.loads(path.read_text(encoding="utf-8"))
    mode = config.get("pooling_mode")
    if mode == "cls" or config.get("pooling_mode_cls_token"):
        return "cls"
    return "last" if mode == "lasttoken" or config.get("pooling_mode_lasttoken") else "mean"
