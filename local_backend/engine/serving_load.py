"""Load a model from its folder so that many texts and adapters can share it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_backend.engine import generate_attention
from local_backend.engine.device import Machine, choose_machine
from local_backend.engine.generate import Batch
from local_backend.engine.generate_cache import CacheShape
from local_backend.engine.generate_lora import Adapter, Routing, read_adapter, route
from local_backend.engine.generate_text import Vocabulary
from local_backend.engine.quiet import quiet
from local_backend.engine.template import Template
from local_backend.task import UserError

ARCHITECTURES = frozenset({"llama", "mistral", "qwen2", "qwen3", "gemma", "gemma3_text"})
"""Model types whose attention is nothing but `generate_attention`'s; others would answer wrongly without a word."""

_PREFIX_BYTES = 512 * 2**20
_CACHE_BYTES = 4 * 2**30


@dataclass(frozen=True, kw_only=True, eq=False)
class Loaded:
    """A model in memory, ready to be shared."""

    model: Any
    template: Template
    routing: Routing
    shape: CacheShape
    context_tokens: int

    def batch(self, vocabulary: Vocabulary) -> Batch:
        """Return the one batch that runs on this model."""
        return Batch(
            self.model,
            shape=self.shape,
            routing=self.routing,
            vocabulary=vocabulary,
            prefix_bytes=_PREFIX_BYTES,
            most_bytes=_CACHE_BYTES,
        )

    def adapter(self, folder: Path) -> Adapter:
        """Read an adapter for this model; see `read_adapter`."""
        return read_adapter(folder, self.model, dtype=self.shape.dtype, device=self.shape.device)


def load(folder: Path) -> Loaded:
    """Load a folder of safetensors.

    Raises:
        UserError: The architecture is not one that can be served here.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    if config.model_type not in ARCHITECTURES:
        raise UserError(
            f"Chat with models of type {config.model_type!r} is not supported here; known: "
            f"{', '.join(sorted(ARCHITECTURES))}. Export the model and serve it elsewhere.",
            param="model",
            code="model_not_supported",
        )
    machine = choose_machine({})
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=machine.dtype, attn_implementation=generate_attention.register(), local_files_only=True
        )
    model = model.to(machine.device).eval().requires_grad_(requires_grad=False)
    routing = Routing()
    route(model, routing)
    return Loaded(
        model=model,
        template=Template.of(folder),
        routing=routing,
        shape=_cache_shape(config, machine),
        context_tokens=config.max_position_embeddings,
    )


def _cache_shape(config: Any, machine: Machine) -> CacheShape:
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return CacheShape(
        n_layers=config.num_hidden_layers,
        n_kv_heads=config.num_key_value_heads,
        head_size=head_size,
        dtype=machine.dtype,
        device=machine.device,
    )
