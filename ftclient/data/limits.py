"""What a host accepts in a training file, as data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Method = Literal["supervised", "dpo", "reinforcement"]

OPENAI_SPECIAL_TOKENS = frozenset(
    f"<|{name}|>"
    for name in ("endoftext", "endofprompt", "fim_prefix", "fim_middle", "fim_suffix", "im_start", "im_end")
)
"""Control tokens that OpenAI refuses inside the text of a message."""

MAX_IMAGE_BYTES = 10 * 1024 * 1024
"""OpenAI's vision fine-tuning guide: 10 MB an image."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of one host. The defaults are OpenAI's."""

    min_examples: int = 10
    """Fewest lines of a training file (validation files may have fewer)."""
    max_images: int = 10
    """Most images in one example (Azure: 64)."""
    max_image_examples: int | None = 50_000
    """Most examples with images in one file (OpenAI's vision fine-tuning guide); None is no limit."""
    max_image_bytes: int = MAX_IMAGE_BYTES
    """Largest image, in decoded bytes."""
    images: Literal["rgb", "any"] = "rgb"
    """`rgb`: JPEG, PNG and WebP with RGB or RGBA colours. `any`: GIF and other colours too; they are converted."""
    weights: Literal["binary", "real"] = "binary"
    """What the `weight` of an assistant message may be: 0 or 1, or any finite number from 0."""
    special_tokens: frozenset[str] = OPENAI_SPECIAL_TOKENS
    """Texts that must not occur in a message."""
    context_tokens: int | None = None
    """Longest example in tokens; None is no limit known."""
    too_long: Literal["warning", "error"] = "warning"
    """A longer example is cut at its end by the host (warning), or refused (error)."""

    def for_model(self, model: str | None) -> Limits:
        """The same limits with the context of `model` filled in, where it is known and not given already."""
        if self.context_tokens is not None or model is None:
            return self
        return replace(self, context_tokens=context_tokens_of(model))


OPENAI_LIMITS = Limits()
LOCAL_LIMITS = Limits(max_image_examples=None, images="any", weights="real", too_long="error")

_CONTEXT_TOKENS = (
    ("gpt-4.1", 65_536),
    ("gpt-4o", 65_536),
    ("gpt-3.5-turbo-0613", 4_096),
    ("gpt-3.5-turbo", 16_385),
)
"""Training context by prefix of the model's name, first match wins (OpenAI's fine-tuning guides, 2025 and 2024)."""


def context_tokens_of(model: str) -> int | None:
    """The longest training example of an OpenAI model in tokens; None for models that are not listed."""
    name = model.removeprefix("ft:")
    return next((tokens for prefix, tokens in _CONTEXT_TOKENS if name.startswith(prefix)), None)
