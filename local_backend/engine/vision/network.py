"""A vision-language model in training: one example at a time, by transformers' own forward pass.

Shapes: T tokens of a pack, D width.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ftclient.data.decoding import decode
from local_backend.engine.device import Machine
from local_backend.engine.network import Network, load_trainable, verify
from local_backend.engine.packing import Pack
from local_backend.engine.vision.template import VisionTemplate
from local_backend.task import JobError


class VisionNetwork(Network):
    """A model that reads images, with the weights that train; images themselves pass through frozen layers."""

    def __init__(self, model: Any, machine: Machine, template: VisionTemplate) -> None:
        super().__init__(model, machine)
        self.is_packed = False
        self._seen = Seen(model, template)

    @property
    def packing(self) -> str:
        """How sequences are computed, in words."""
        return "one example at a time: images are not packed"

    def inputs(self, ids: Sequence[int], images: Sequence[bytes]) -> dict[str, torch.Tensor]:
        """Return what the forward pass takes beside ids."""
        return self._seen.inputs(ids, images, machine=self.machine)

    def _plain_hidden(self, part: Pack) -> torch.Tensor:
        """The normed hidden states that the output layer reads, one a row (R, D)."""
        sequences = {places[0]: sequence for places, sequence in zip(part.places, part.sequences, strict=True)}
        states = []
        for run in part.runs:
            ids_T = part.ids_T[run.start : run.end].to(self.machine.device)
            more = self.inputs(ids_T.tolist(), sequences[run.start].images)
            states.append(self.model.base_model(input_ids=ids_T[None], use_cache=False, **more).last_hidden_state[0])
        x_TD = torch.cat(states)
        return x_TD[part.row_positions_R.to(x_TD.device)]


class Seen:
    """Turns the images of a prompt into what one model's forward pass takes beside ids."""

    def __init__(self, model: Any, template: VisionTemplate) -> None:
        self._template = template
        # Qwen's models place tokens by the kind that they are of.
        self._wants_kinds = "mm_token_type_ids" in inspect.signature(model.forward).parameters

    def inputs(self, ids: Sequence[int], images: Sequence[bytes], *, machine: Machine) -> dict[str, torch.Tensor]:
        """Return the forward pass's further arguments; none for a prompt without images."""
        if not images:
            return {}
        found = self._template.reader.inputs([decode(image) for image in images])
        moved = {name: _moved(value, machine) for name, value in found.items()}
        if self._wants_kinds:
            kinds = [[int(self._template.is_image(token)) for token in ids]]
            moved["mm_token_type_ids"] = torch.tensor(kinds, device=machine.device)
        return moved


def _moved(value: torch.Tensor, machine: Machine) -> torch.Tensor:
    return value.to(machine.device, machine.dtype if value.is_floating_point() else None)


def check_tune(tune: Mapping[str, Any]) -> None:
    """Refuse ways of tuning that are not known to be right for models that see.

    Raises:
        JobError: It is another than LoRA.
    """
    if tune.get("type", "lora") != "lora":
        text = "Vision-language models are tuned by LoRA here: leave `local.tune` out, or choose LoRA()."
        raise JobError("unsupported_tune", text, param="local.tune.type")


def load_vision_network(
    model_dir: Path, machine: Machine, template: VisionTemplate, tune: Mapping[str, Any]
) -> VisionNetwork:
    """Load a vision-language model from a folder of safetensors.

    Raises:
        JobError: It can't be loaded or computed here, or is to be tuned otherwise than by LoRA.
    """
    import transformers

    check_tune(tune)
    model = load_trainable(transformers.AutoModelForImageTextToText, model_dir, machine)
    network = VisionNetwork(model, machine, template)
    verify(network)
    return network
