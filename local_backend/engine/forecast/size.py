"""How large a model is, and what trains of it: counted on a model without memory, so nothing is loaded for it.

Letters: D width, H query heads, G key/value heads, K size of a head, F inner width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from local_backend.engine.attention import CAPPED_BYTES
from local_backend.engine.device import Machine
from local_backend.engine.frozen import frozen_blocks
from local_backend.engine.loss import BLOCK_TOKENS, CHUNK_BYTES
from local_backend.engine.quiet import quiet
from local_backend.engine.tuning import choose_weights
from local_backend.engine.vision.network import check_tune
from local_backend.engine.vision.reader import reads_images

_KEYED_NORMS = frozenset({"qwen3", "gemma3_text"})
"""Kinds that norm queries and keys, and so keep the joined projection, too."""
_SANDWICHES = frozenset({"gemma2", "gemma3_text"})
"""Kinds that norm what attention and feed-forward give, and so keep it, too."""
_PLAIN_GATES = frozenset({"gemma", "gemma2", "gemma3_text"})
"""Kinds whose gate is not this engine's own: its input, its output, and the product stay."""


@dataclass(frozen=True)
class Shape:
    """The numbers of a decoder's blocks."""

    kind: str
    n_blocks: int
    D: int
    H: int
    G: int
    K: int
    F: int
    V: int
    window: int | None = None
    """Tokens that some blocks see at most."""
    is_capped: bool = False
    """Whether scores of attention are capped."""

    @classmethod
    def of(cls, config: Any) -> Shape:
        """Read a configuration of transformers."""
        text = config.get_text_config()
        # Without attention there are no heads; what else such blocks keep is about as much as one as wide would.
        heads = int(getattr(text, "num_attention_heads", None) or 1)
        return cls(
            kind=text.model_type,
            n_blocks=int(text.num_hidden_layers),
            D=int(text.hidden_size),
            H=heads,
            G=int(getattr(text, "num_key_value_heads", None) or heads),
            K=int(getattr(text, "head_dim", None) or text.hidden_size // heads),
            F=int(getattr(text, "intermediate_size", None) or 4 * text.hidden_size),
            V=int(text.vocab_size),
            window=getattr(text, "sliding_window", None),
            is_capped=bool(getattr(text, "attn_logit_softcapping", None)),
        )

    @property
    def projected(self) -> int:
        """Weights that every token of a pack meets in every block: those of queries, keys, values."""
        return self.D * self.K * (self.H + 2 * self.G)

    @property
    def block(self) -> int:
        """Weights of a block's products."""
        return self.projected + self.D * self.K * self.H + 3 * self.D * self.F

    def blocks_of(self, n_weights: int, *, most: int) -> int:
        """How many blocks have about so many weights: at least one."""
        return max(1, min(most, self.n_blocks, -(-n_weights // self.block)))

    def kept(self, n_tokens: int, *, n_blocks: int, n_rows: int, is_recomputed: bool = False) -> int:
        """Numbers that the blocks of a pack, the last `n_blocks` of the model, keep for the backward pass.

        The last block computes all tokens' keys and values, and what follows for the rows only.
        """
        if n_blocks == 0:
            return 0
        last = n_tokens * self._mixed() + n_rows * (self.K * self.H + self._fed())
        if is_recomputed:  # inputs, and all of one block at a time
            return n_blocks * n_tokens * self.D + (n_tokens * self.kept_by_block if n_blocks > 1 else last)
        return (n_blocks - 1) * n_tokens * self.kept_by_block + last

    def kept_with_ends(self, n_tokens: int, *, n_blocks: int, n_rows: int, is_recomputed: bool = False) -> int:
        """The same with the rotary tables, and with the last norm's input."""
        kept = self.kept(n_tokens, n_blocks=n_blocks, n_rows=n_rows, is_recomputed=is_recomputed)
        return kept + (n_tokens * self.K if n_blocks else 0) + n_rows * (self.D + 1)

    @property
    def kept_by_block(self) -> int:
        """Numbers that a block keeps for each token, if it computes all of them."""
        return self._mixed() + self._fed()

    def _mixed(self) -> int:
        """A token's numbers up to attention: block input, its norm; queries, keys, values, their mix, log-sum-exps."""
        joined = self.K * (self.H + 2 * self.G) + self.H + self.G if self.kind in _KEYED_NORMS else 0
        return self.D + 1 + 2 * self.K * (self.H + self.G) + self.H + joined

    def _fed(self) -> int:
        """A token's numbers from there on: the sum, its norm, gate and up."""
        gates = 2 * self.F if self.kind in _PLAIN_GATES else 0
        return self.D + 1 + 2 * self.F + gates + (2 * self.D + 2 if self.kind in _SANDWICHES else 0)

    def scored(self, n_rows: int, *, item_bytes: int) -> int:
        """Bytes that the output layer takes for a while.

        A chunk's probabilities, the logits of a block of them twice, and the hidden states and their gradient.
        """
        chunk_rows = min(n_rows, max(16, CHUNK_BYTES // (4 * self.V)))
        return chunk_rows * 4 * (self.V + 2 * BLOCK_TOKENS) + 3 * n_rows * self.D * item_bytes

    def passed_back(self, n_tokens: int, *, item_bytes: int) -> int:
        """Bytes that the backward pass takes for a while.

        The gradient of the feed-forward's inner width six times, and the joined weights of gate and up.
        """
        inner = 6 * n_tokens * self.F + 3 * n_tokens * self.D + 2 * self.F * self.D
        return inner * item_bytes + self.masks(n_tokens, item_bytes=item_bytes)

    def passed_forward(self, n_tokens: int, *, item_bytes: int) -> int:
        """Bytes that a forward pass takes for a while that keeps nothing: gate, up, and their product twice."""
        inner = 4 * n_tokens * self.F + 3 * n_tokens * self.D
        return inner * item_bytes + self.masks(n_tokens, item_bytes=item_bytes)

    def masks(self, n_tokens: int, *, item_bytes: int) -> int:
        """Bytes of what says which token sees which, once for all blocks, and of the capped scores of some rows."""
        is_windowed = self.window is not None and n_tokens > self.window
        if self.is_capped:
            kinds = 1 if self.window is None else 2
            return kinds * n_tokens**2 + 4 * min(CAPPED_BYTES, 4 * self.H * n_tokens**2)
        return item_bytes * n_tokens**2 if is_windowed else 0


@dataclass(frozen=True, kw_only=True)
class Size:
    """What a model takes, and what trains of it."""

    shape: Shape
    frozen_weights: int
    """Numbers that do not train, in the machine's precision."""
    trained_weights: int
    """Numbers that train, in fp32."""
    frozen_blocks: int
    """Blocks, from the first on, that are computed once for all epochs."""
    trains_head: bool
    saves_whole: bool
    """Whether a checkpoint holds the whole model; else an adapter."""
    is_packed: bool

    @property
    def trained_blocks(self) -> int:
        """Blocks that the backward pass goes through."""
        return self.shape.n_blocks - self.frozen_blocks


def empty_model(model_dir: Path, tune: Mapping[str, Any]) -> Any:
    """A model of this shape with what trains, and without any memory.

    Raises:
        JobError: It is not tuned in this way.
    """
    import transformers

    config = transformers.AutoConfig.from_pretrained(model_dir, local_files_only=True)
    with torch.device("meta"), quiet():
        if reads_images(model_dir):
            check_tune(tune)
            model = transformers.AutoModelForImageTextToText.from_config(config)
        else:
            model = transformers.AutoModelForCausalLM.from_config(config.get_text_config())
    with_trained_weights(model, tune)
    return model


def size_of(model: Any, *, saves_whole: bool, is_packed: bool) -> Size:
    """Count a model's weights; what trains of it has been chosen."""
    config = model.config.get_text_config()
    parameters = list(model.parameters())
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    return Size(
        shape=Shape.of(config),
        frozen_weights=sum(p.numel() for p in parameters) - trained,
        trained_weights=trained,
        frozen_blocks=frozen_blocks(model) if is_packed else 0,
        trains_head=bool(model.get_output_embeddings().weight.requires_grad),
        saves_whole=saves_whole,
        is_packed=is_packed,
    )


def with_trained_weights(model: Any, tune: Mapping[str, Any]) -> None:
    """Choose what trains, as a job does."""
    chosen = {"type": "lora", **tune}
    if chosen["type"] == "last_layers":
        chosen["n"] = min(int(chosen.get("n", 2)), int(model.config.get_text_config().num_hidden_layers))
    choose_weights(model, chosen, seed=0)


def as_trained(machine: Machine, tune: Mapping[str, Any]) -> Machine:
    """The machine with the precision that this way of tuning computes in: weights that train are fp32."""
    if machine.dtype is torch.float32 or tune.get("type", "lora") == "lora":
        return machine
    return replace(machine, dtype=torch.float32, precision_reason="weights that train are fp32: bf16 loses small steps")
