"""A model in training: loads it, adapts it, and turns packs of sequences into loss and gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from local_backend.engine import adapters, decoder
from local_backend.engine.attention import plan_attention
from local_backend.engine.device import Machine
from local_backend.engine.loss import Head, Rows, score, weighted_nll
from local_backend.engine.packing import Pack, micro_batches, pack
from local_backend.engine.template import Rendered
from local_backend.task import JobError

MICRO_BATCH_TOKENS = 2048
"""Tokens computed at once: enough for matrix products at full rate; more only takes memory."""


@dataclass(frozen=True)
class Sums:
    """Weighted sums over trained tokens, to be divided by `weight`."""

    nll: float = 0.0
    hits: float = 0.0
    weight: float = 0.0

    def __add__(self, other: Sums) -> Sums:
        """Add the sums of another pack."""
        return Sums(self.nll + other.nll, self.hits + other.hits, self.weight + other.weight)

    @property
    def loss(self) -> float:
        """Nats a weighted token."""
        return self.nll / self.weight

    @property
    def accuracy(self) -> float:
        """Weighted share of tokens that the model would have chosen."""
        return self.hits / self.weight


class Network:
    """A causal language model with the weights that train."""

    def __init__(self, model: Any, machine: Machine) -> None:
        self.model = model
        self.machine = machine
        self.is_packed = decoder.supports(model.config)
        """Whether the packed forward pass knows this architecture; else transformers' own runs, one by one."""

    def parameters(self) -> list[tuple[str, nn.Parameter]]:
        """The weights that train, by name."""
        return [(name, parameter) for name, parameter in self.model.named_parameters() if parameter.requires_grad]

    @property
    def packing(self) -> str:
        """How sequences are computed, in words."""
        if self.is_packed:
            return "packed, shared prefixes computed once"
        return f"one sequence at a time: the packed way is not known to be right for {self.model.config.model_type!r}"

    def train_step(
        self, sequences: Sequence[Rendered], *, max_tokens: int, between: Callable[[], None] = lambda: None
    ) -> Sums:
        """Add the gradient of sum(w * nll) / sum(w) over all sequences; return the sums.

        `between` is called before each pack of at most about `max_tokens`.
        """
        weight = sum(sum(sequence.weights) for sequence in sequences)
        total = Sums()
        for part in self.packs(sequences, max_tokens=max_tokens):
            between()
            total += self._train_pack(part, weight)
        return total

    def score(
        self, sequences: Sequence[Rendered], *, max_tokens: int, between: Callable[[], None] = lambda: None
    ) -> Sums:
        """The sums without gradients."""
        total = Sums()
        with torch.no_grad():
            for part in self.packs(sequences, max_tokens=max_tokens):
                between()
                hidden_RD = self._rows(part)
                rows = score(hidden_RD, part.row_targets_R.to(hidden_RD.device), head=self._head())
                total += _sums(rows, part)
        return total

    def packs(self, sequences: Sequence[Rendered], *, max_tokens: int) -> Iterator[Pack]:
        """Lay sequences out in packs of about `max_tokens`."""
        if not self.is_packed:
            yield from (pack([sequence]) for sequence in sequences)
            return
        for indices in micro_batches(sequences, max_tokens=max_tokens):
            yield pack([sequences[i] for i in indices])

    def _train_pack(self, part: Pack, weight: float) -> Sums:
        if not len(part.row_targets_R):
            return Sums()
        weights_R = part.row_weights() / weight
        hidden_RD = self._rows(part)
        device = hidden_RD.device
        loss, rows = weighted_nll(hidden_RD, part.row_targets_R.to(device), weights_R.to(device), head=self._head())
        loss.backward()  # type: ignore[no-untyped-call]
        return _sums(rows, part)

    def _rows(self, part: Pack) -> torch.Tensor:
        """The normed hidden states that the output layer reads, one a row (R, D)."""
        if not self.is_packed:
            ids_1T = part.ids_T[None].to(self.machine.device)
            out = self.model.get_decoder()(input_ids=ids_1T, use_cache=False).last_hidden_state[0]
            return out[part.row_positions_R.to(out.device)]  # type: ignore[no-any-return]
        plan = plan_attention(part)
        x_TD = decoder.hidden_states(self.model, decoder.embed(self.model, plan), plan=plan)
        return decoder.final_norm(self.model, x_TD[part.row_positions_R.to(x_TD.device)])

    def _head(self) -> Head:
        layer = self.model.get_output_embeddings()
        return Head(layer.weight, getattr(self.model.config, "final_logit_softcapping", None))


def load_network(model_dir: Path, machine: Machine) -> Network:
    """Load a causal language model from a folder of safetensors, without any update.

    Raises:
        JobError: It can't be loaded.
    """
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(
            model_dir, dtype=machine.dtype, local_files_only=True, use_safetensors=True, attn_implementation="sdpa"
        )
    except (OSError, ValueError, RuntimeError) as error:
        text = f"The model can't be loaded for training: {str(error)[:300]}"
        raise JobError("model_not_supported", text, "model") from error
    model.to(machine.device)
    model.train()
    return Network(model, machine)


def tune(network: Network, options: Mapping[str, Any], *, seed: int) -> None:
    """Choose what trains: adds adapters, or unfreezes weights.

    Raises:
        JobError: The model has no such layers, or this engine does not tune that way.
    """
    kind = options.get("type", "lora")
    if kind != "lora":
        text = f"This engine tunes with LoRA only, not {kind!r}: leave local.tune out, or set its type to 'lora'."
        raise JobError("unsupported_tuning", text, param="local.tune.type")
    adapters.add_adapters(network.model, options, seed=seed)


def _sums(rows: Rows, part: Pack) -> Sums:
    weights_R = part.row_weights()
    return Sums(
        nll=float(-(rows.logprobs_R.double().cpu() * weights_R).sum()),
        hits=float((rows.hits_R.double().cpu() * weights_R).sum()),
        weight=float(weights_R.sum()),
    )
