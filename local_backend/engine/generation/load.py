"""Load a model from its folder so that many texts and adapters can share it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_backend.engine import NO_LIMIT_TOKENS
from local_backend.engine.complete import load_complete, placed
from local_backend.engine.decoder import has_fixed_rotary_tables
from local_backend.engine.device import Machine, choose_machine
from local_backend.engine.generation import attention as decode_attention
from local_backend.engine.generation.batch import Batch
from local_backend.engine.generation.cache import CacheShape
from local_backend.engine.generation.lora import Adapter, Routing, read_adapter, route
from local_backend.engine.generation.plain import PlainBatch
from local_backend.engine.generation.text import Vocabulary
from local_backend.engine.quiet import quiet
from local_backend.engine.template import Template
from local_backend.engine.vision.batch import VisionBatch
from local_backend.engine.vision.network import Seen
from local_backend.engine.vision.template import VisionTemplate
from local_backend.task import UserError

ARCHITECTURES = frozenset({"llama", "mistral", "qwen2", "qwen3", "gemma", "gemma3_text"})
"""Model types whose attention is nothing but `attention`'s. All others take `plain`'s path, and so do models of these
types whose positions depend on the texts beside them."""

_PREFIX_BYTES = 512 * 2**20
_CACHE_BYTES = 4 * 2**30


@dataclass(frozen=True, kw_only=True, eq=False)
class Loaded:
    """A model in memory, ready to be shared."""

    model: Any
    template: Template
    routing: Routing
    machine: Machine
    shape: CacheShape | None
    """What a token takes in the shared cache; None where the model keeps its own."""
    context_tokens: int

    def batch(self, vocabulary: Vocabulary) -> Batch | PlainBatch:
        """Return the one batch that runs on this model."""
        if isinstance(self.template, VisionTemplate):
            seen = Seen(self.model, self.template)
            return VisionBatch(self.model, routing=self.routing, vocabulary=vocabulary, machine=self.machine, seen=seen)
        if self.shape is None:
            return PlainBatch(self.model, routing=self.routing, vocabulary=vocabulary, device=self.machine.device)
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
        return read_adapter(folder, self.model, dtype=self.machine.dtype, device=self.machine.device)


def load(folder: Path, *, tokenizer_dir: Path) -> Loaded:
    """Load a folder of safetensors, with the tokenizer of another (its base model's) or the same.

    Raises:
        UserError: transformers can't load it as a model that continues texts, or not all of its weights are there.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    machine, template = choose_machine({}), Template.of(tokenizer_dir)
    sees = isinstance(template, VisionTemplate)
    try:
        with quiet():
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
            is_known = config.model_type in ARCHITECTURES and has_fixed_rotary_tables(config)
            attention = {"attn_implementation": decode_attention.register()} if is_known else {}
            options: dict[str, Any] = {"dtype": machine.dtype, "local_files_only": True, **attention}
            kind = AutoModelForImageTextToText if sees else AutoModelForCausalLM
            model, _ = load_complete(kind, folder, **options)
    except (ValueError, RuntimeError) as error:  # the latter: weights of other shapes than the configuration says
        text = f"This model can't be used for chat: {str(error)[:300]}"
        raise UserError(text, param="model", code="model_not_supported") from error
    model = placed(model, folder, machine.device).eval().requires_grad_(requires_grad=False)
    routing = Routing()
    route(model, routing)
    return Loaded(
        model=model,
        template=template,
        routing=routing,
        machine=machine,
        shape=_cache_shape(config, machine) if is_known else None,
        context_tokens=_context_tokens(config.get_text_config()),
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


def _context_tokens(config: Any) -> int:
    """Return the longest text that the model reads; recurrent ones name no limit."""
    return int(getattr(config, "max_position_embeddings", None) or NO_LIMIT_TOKENS)
