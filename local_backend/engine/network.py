"""A model in training: loads it, adapts it, and turns packs of sequences into loss and gradients."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from local_backend.engine import decoder
from local_backend.engine.attention import plan_attention
from local_backend.engine.complete import load_complete, placed
from local_backend.engine.device import Machine
from local_backend.engine.dropout import without_dropout
from local_backend.engine.frozen import FrozenStates
from local_backend.engine.loss import Head, Rows, nll_gradient, score
from local_backend.engine.pace import Between
from local_backend.engine.packing import Pack, micro_batches, pack
from local_backend.engine.quiet import quiet
from local_backend.engine.template import Rendered
from local_backend.task import JobError


def _nothing() -> None:
    """What is done between packs if nobody says."""


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

    @property
    def extra(self) -> dict[str, float]:
        """Nothing beyond loss and accuracy."""
        return {}


class Network:
    """A causal language model with the weights that train."""

    def __init__(self, model: Any, machine: Machine) -> None:
        self.model = model
        self.machine = machine
        self.frozen: FrozenStates | None = None
        """What the blocks below the lowest trained one say of each token, once they have been asked."""
        self.keeps_blocks = True
        """Whether the backward pass finds all it wants kept; else blocks are computed again for it."""
        self.is_packed = decoder.supports(model.config)
        """Whether the packed forward pass knows this architecture; else transformers' own runs, one by one."""

    def parameters(self) -> list[tuple[str, nn.Parameter]]:
        """The weights that train, by name."""
        return [(name, parameter) for name, parameter in self.model.named_parameters() if parameter.requires_grad]

    def inputs(self, ids: Sequence[int], images: Sequence[bytes]) -> dict[str, torch.Tensor]:  # noqa: ARG002 - no eyes
        """What transformers' forward pass takes beside the ids of a prompt: nothing, in models that read text alone."""
        return {}

    def recompute_blocks(self) -> None:
        """From now on blocks keep their input only, and are computed again in the backward pass.

        Raises:
            JobError: The model takes the plain path, and transformers can't do so with it.
        """
        if not self.is_packed and not self.model.supports_gradient_checkpointing:
            kind = self.model.config.model_type
            text = (
                f"The longest example needs more memory than there is, or `checkpointing` is asked for, and models of "
                f"the kind {kind!r} can't compute their blocks again. Use shorter examples or leave the option out."
            )
            raise JobError("model_not_supported", text, param="local.runtime.checkpointing")
        self.keeps_blocks = False
        if not self.is_packed:
            self.model.activation_checkpointing_enable()

    def clear_gradients(self) -> None:
        """Forget the gradients.

        The output layer's is set to zero in place: it is so large that the system would have to find memory for it
        anew each step, which takes longer than the optimizer does.
        """
        head = self.model.get_output_embeddings().weight
        for _, parameter in self.parameters():
            if parameter is head and parameter.grad is not None:
                parameter.grad.zero_()
            else:
                parameter.grad = None

    @property
    def packing(self) -> str:
        """How sequences are computed, in words."""
        if self.is_packed:
            return "packed, shared prefixes computed once"
        config = self.model.config
        if config.model_type in decoder.MODEL_TYPES and not decoder.has_fixed_rotary_tables(config):
            return "one sequence at a time: longrope places a text's tokens by the longest text beside it"
        return f"one sequence at a time: the packed way is not known to be right for {config.model_type!r}"

    def notes(self) -> dict[str, str]:
        """Say what of the model's configuration a training does otherwise."""
        share = getattr(self.model.config, "attention_dropout", None)
        if not self.is_packed or not share:
            return {}
        text = (
            f"The model's configuration drops {share:.0%} of the attention weights in training (attention_dropout); "
            "here none are dropped. Use the adapter's own `dropout` instead."
        )
        return {"dropout_note": text}

    def train_step(self, sequences: Sequence[Rendered], *, max_tokens: int, between: Between = _nothing) -> Sums:
        """Add the gradient of sum(w * nll) / sum(w) over all sequences; return the sums.

        `between` is called before each pack of at most about `max_tokens`.
        """
        weight = sum(sum(sequence.weights) for sequence in sequences)
        total = Sums()
        for _, part in self.packs([[sequence] for sequence in sequences], max_tokens=max_tokens):
            between()
            weights_R = part.row_weights()
            rows = self.backward(part, self.hidden(part), weights_R / weight)
            total += _sums(rows, weights_R)
        return total

    def score(self, sequences: Sequence[Rendered], *, max_tokens: int, between: Between = _nothing) -> Sums:
        """The sums without gradients and without dropout."""
        total = Sums()
        with without_dropout(self.model):
            for _, part in self.packs([[sequence] for sequence in sequences], max_tokens=max_tokens):
                between()
                total += _sums(self.score_pack(part), part.row_weights())
        return total

    def packs(self, groups: Sequence[Sequence[Rendered]], *, max_tokens: int) -> Iterator[tuple[list[int], Pack]]:
        """Lay groups of sequences out in packs of about `max_tokens`, with the indices of each pack's groups."""
        batches: Iterable[list[int]] = micro_batches(groups, max_tokens=max_tokens)
        for indices in batches if self.is_packed else ([i] for i in range(len(groups))):
            sequences = [sequence for i in indices for sequence in groups[i]]
            yield indices, pack(sequences, shares_prefixes=self.is_packed)

    def hidden(self, part: Pack) -> torch.Tensor:
        """The normed hidden states that the output layer reads, one a row (R, D)."""
        if not self.is_packed:
            return self._plain_hidden(part)
        if self.frozen is not None and self.frozen.is_final:
            return self.frozen.states(part)
        plan = plan_attention(part)
        rows_R = part.row_positions_R.to(self.machine.device)
        if self.frozen is None:
            x_TD, layers = decoder.embed(self.model, plan), self.model.model.layers
        else:
            x_TD, layers = self.frozen.states(part), self.model.model.layers[self.frozen.n_blocks :]
        keeps = self.keeps_blocks or not torch.is_grad_enabled()
        x_RD = decoder.hidden_states(self.model, x_TD, plan=plan, layers=layers, rows_R=rows_R, keeps=keeps)
        return decoder.final_norm(self.model, x_RD)

    def score_pack(self, part: Pack, hidden_RD: torch.Tensor | None = None) -> Rows:
        """Log-probabilities of a pack's targets, without gradients."""
        with torch.no_grad():
            hidden_RD = self.hidden(part) if hidden_RD is None else hidden_RD
            return score(hidden_RD, part.row_targets_R.to(hidden_RD.device), head=self._head())

    def backward(self, part: Pack, hidden_RD: torch.Tensor, weights_R: torch.Tensor) -> Rows:
        """Add the gradient of sum(weight * -logprob) over a pack's rows."""
        if not len(part.row_targets_R):
            return Rows(hidden_RD.new_zeros(0), torch.zeros(0, dtype=torch.bool))
        device = hidden_RD.device
        targets_R, weights_R = part.row_targets_R.to(device), weights_R.to(device)
        dhidden_RD, rows = nll_gradient(hidden_RD, targets_R, weights_R, head=self._head())
        if dhidden_RD is not None:
            hidden_RD.backward(dhidden_RD)  # type: ignore[no-untyped-call]
        return rows

    def _plain_hidden(self, part: Pack) -> torch.Tensor:
        """By transformers' own forward pass, a sequence at a time."""
        ids_T = part.ids_T.to(self.machine.device)
        outs = [
            self.model.get_decoder()(input_ids=ids_T[None, run.start : run.end], use_cache=False) for run in part.runs
        ]
        x_TD = torch.cat([out.last_hidden_state[0] for out in outs])
        return x_TD[part.row_positions_R.to(x_TD.device)]

    def _head(self) -> Head:
        layer = self.model.get_output_embeddings()
        return Head(layer.weight, getattr(self.model.config, "final_logit_softcapping", None))


def load_network(model_dir: Path, machine: Machine) -> Network:
    """Load a causal language model from a folder of safetensors, without any update, and compare it with transformers.

    Raises:
        JobError: It can't be loaded, or its log-probabilities can't be computed here as transformers computes them.
    """
    import transformers

    network = Network(load_trainable(transformers.AutoModelForCausalLM, model_dir, machine), machine)
    verify(network)
    return network


def verify(network: Network) -> None:
    """Compare log-probabilities with transformers' own forward pass on two short sequences that share a prefix.

    Where the packed way differs (an architecture that changed with a version of transformers, say), the plain way is
    taken instead; `packing` says so.

    Raises:
        JobError: The plain way differs too: the output layer does more than multiply.
    """
    with without_dropout(network.model):
        if network.is_packed and not _agrees(network):
            network.is_packed = False
        is_known = network.is_packed or _agrees(network)
    if not is_known:
        kind = network.model.config.model_type
        text = f"Models of the kind {kind!r} do more to their logits than this engine knows. Choose another model."
        raise JobError("model_not_supported", text, "model")


def _agrees(network: Network) -> bool:
    model = network.model
    limit = int(model.config.get_text_config().vocab_size)
    ids = [(7 * i * i + 11 * i + 3) % limit for i in range(20)]
    probes = [Rendered(ids, [0.0] + [1.0] * 19), Rendered([*ids[:10], *ids[5:12]], [0.0] + [1.0] * 16)]
    found = network.score(probes, max_tokens=1000)
    expected = 0.0
    with torch.no_grad():
        for probe in probes:
            ids_1T = torch.tensor([probe.ids], device=network.machine.device)
            logprobs_TV = torch.log_softmax(model(input_ids=ids_1T, use_cache=False).logits[0, :-1].double(), dim=-1)
            expected -= float(logprobs_TV.gather(1, ids_1T[0, 1:, None]).sum())
    tolerance = 0.02 if network.machine.precision == "bf16" else 1e-4
    return abs(found.nll - expected) <= tolerance * abs(expected)


def _sums(rows: Rows, weights_R: torch.Tensor) -> Sums:
    return Sums(
        nll=float(-(rows.logprobs_R.double().cpu() * weights_R).sum()),
        hits=float((rows.hits_R.double().cpu() * weights_R).sum()),
        weight=float(weights_R.sum()),
    )


def load_trainable(auto_class: Any, model_dir: Path, machine: Machine) -> Any:
    """Load a model of one of transformers' auto classes from a folder of safetensors, ready to be trained.

    Raises:
        JobError: It can't be loaded, or not all of its weights are there.
    """
    try:
        with quiet():
            options: dict[str, Any] = {"dtype": machine.dtype, "local_files_only": True, "use_safetensors": True}
            model, _ = load_complete(auto_class, model_dir, **options)
    except (OSError, ValueError, RuntimeError) as error:
        text = f"The model can't be loaded for training: {str(error)[:300]}"
        raise JobError("model_not_supported", text, "model") from error
    return placed(model, model_dir, machine.device).train()
