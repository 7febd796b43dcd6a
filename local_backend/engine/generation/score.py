"""How likely a model finds given answers: one forward pass each, no token is generated.

Shapes: T tokens, A tokens of the answer, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from local_backend.engine.generation.attention import PrefillStep
from local_backend.engine.generation.cache import Cache
from local_backend.engine.generation.load import Loaded
from local_backend.engine.generation.lora import Adapter
from local_backend.engine.template import Rendered
from local_backend.engine.vision.network import Seen
from local_backend.engine.vision.template import VisionTemplate
from local_backend.task import Scored, UserError


def score(loaded: Loaded, adapter: Adapter | None, examples: Sequence[Mapping[str, Any]]) -> list[Scored]:
    """Return the probability of the last answer of each example, rendered as the trainer renders it.

    Raises:
        UserError: An example is longer than the model reads.
    """
    return [_score_one(loaded, adapter, _rendered(loaded, example)) for example in examples]


def _rendered(loaded: Loaded, example: Mapping[str, Any]) -> Rendered:
    *before, last = example["messages"]
    quiet = [{**message, "weight": 0} if message["role"] == "assistant" else message for message in before]
    (found,) = loaded.template.render({**example, "messages": [*quiet, {**last, "weight": 1}]})
    if len(found.ids) > loaded.context_tokens:
        raise UserError(
            f"An example has {len(found.ids)} tokens, but the model reads at most {loaded.context_tokens}. Shorten it.",
            param="examples",
            code="context_length_exceeded",
        )
    return found


def _score_one(loaded: Loaded, adapter: Adapter | None, rendered: Rendered) -> Scored:
    at = [position for position, weight in enumerate(rendered.weights) if weight > 0]
    first, last = at[0], at[-1]
    logits_AV = _logits(loaded, adapter, rendered.ids[:last], images=rendered.images, n_last=last - first + 1)
    targets = torch.tensor([rendered.ids[position] for position in at], device=logits_AV.device)
    rows = torch.tensor([position - first for position in at], device=logits_AV.device)
    logprobs_AV = torch.log_softmax(logits_AV[rows].float(), dim=-1)
    total = logprobs_AV.gather(1, targets[:, None]).double().sum()
    return Scored(logprob=float(total), n_tokens=len(at))


def _logits(
    loaded: Loaded, adapter: Adapter | None, ids: Sequence[int], *, images: Sequence[bytes], n_last: int
) -> Tensor:
    """The logits behind each of the last tokens, shaped AV."""
    device = loaded.machine.device
    loaded.routing.set([adapter], device)
    wanted: dict[str, Any] = {"input_ids": torch.tensor([ids], device=device), "use_cache": False}
    if loaded.shape is not None:
        row = Cache(loaded.shape, most_rows_ahead=1).take(len(ids))
        wanted["position_ids"] = torch.arange(len(ids), device=device)[None]
        wanted |= {"logits_to_keep": n_last, "step": PrefillStep(row, len(ids))}
    if isinstance(loaded.template, VisionTemplate):
        wanted |= Seen(loaded.model, loaded.template).inputs(ids, images, machine=loaded.machine)
    logits_1TV: Tensor = loaded.model(**wanted).logits
    return logits_1TV[0, -n_last:]
