"""Adapters over one base model in memory: each text of a batch gets its own, without touching the base weights.

Shapes: B texts, T tokens, I and O a linear layer's inputs and outputs, R rank.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from local_backend.engine.generation.stamp import stamp
from local_backend.models.names import adapter_config
from local_backend.task import UserError

_KEY = re.compile(r"base_model\.model\.(?P<layer>.+)\.lora_(?P<part>A|B|magnitude_vector)(\.weight)?")
_PARTS = {"A", "B"}


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerAdapter:
    """What an adapter adds to one linear layer: scale * B A x, and for DoRA a factor for each output."""

    a_RI: Tensor
    b_OR: Tensor
    factor_O: Tensor | None = None

    def change(self, inputs: Tensor, outputs: Tensor) -> Tensor:
        """Return the adapted outputs, given the base layer's (without bias for DoRA)."""
        changed = outputs + (inputs @ self.a_RI.T) @ self.b_OR.T
        return changed if self.factor_O is None else changed * self.factor_O


@dataclass(frozen=True, kw_only=True, eq=False)
class Adapter:
    """A LoRA, rsLoRA or DoRA adapter in memory, by the name of the layer; the scale is folded into B."""

    key: str
    """Names what its files held when they were read; see `adapter_key`."""
    layers: Mapping[str, LayerAdapter]


class Routing:
    """Which texts of the running batch go through which adapter."""

    def __init__(self) -> None:
        self.groups: list[tuple[Adapter, Tensor | None]] = []
        """An adapter and the batch rows that it changes; None stands for all."""

    def set(self, adapters: Sequence[Adapter | None], device: torch.device) -> None:
        """Take one adapter (or None) for each row of the batch to come."""
        distinct = {id(adapter): adapter for adapter in adapters if adapter is not None}
        self.groups = [
            (adapter, _rows_of(adapter, adapters, device)) for adapter in distinct.values() if adapter is not None
        ]


class RoutedLinear(nn.Module):
    """A base layer and, for the rows that have one, their adapter's change."""

    def __init__(self, linear: nn.Linear, name: str, routing: Routing) -> None:
        super().__init__()
        self.linear = linear
        self._name = name
        self._routing = routing

    @property
    def weight(self) -> Tensor:
        """The base layer's weights, for architectures that multiply by them on their own (Mamba does).

        Raises:
            UserError: An adapter changes this layer, which would pass it by.
        """
        if any(self._name in adapter.layers for adapter, _ in self._routing.groups):
            text = f"This architecture uses the weights of {self._name} directly; merge the adapter to use it."
            raise UserError(text, param="model", code="model_not_supported")
        return self.linear.weight

    @property
    def bias(self) -> Tensor | None:
        """The base layer's bias."""
        return self.linear.bias

    def forward(self, inputs_BTI: Tensor) -> Tensor:
        """Map BTI to BTO."""
        outputs_BTO: Tensor = self.linear(inputs_BTI)
        for adapter, rows in self._routing.groups:
            layer = adapter.layers.get(self._name)
            if layer is None:
                continue
            if rows is None:
                outputs_BTO = self._changed(layer, inputs_BTI, outputs_BTO)
            else:
                outputs_BTO[rows] = self._changed(layer, inputs_BTI[rows], outputs_BTO[rows])
        return outputs_BTO

    def _changed(self, layer: LayerAdapter, inputs: Tensor, outputs: Tensor) -> Tensor:
        bias = self.linear.bias
        if layer.factor_O is None or bias is None:
            return layer.change(inputs, outputs)
        return layer.change(inputs, outputs - bias) + bias


def route(model: nn.Module, routing: Routing) -> None:
    """Put every linear layer of the blocks behind the routing."""
    linears = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    for name, layer in linears:
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, RoutedLinear(layer, name, routing))


def adapter_key(folder: Path) -> str:
    """Return the key of the adapter that the folder holds now; it is another once its files are written anew."""
    return f"{folder} {stamp(folder)}"


def lora_config(folder: Path) -> dict[str, Any]:
    """Return what a LoRA adapter says of itself, in PEFT's format; `r` and `lora_alpha` are numbers.

    Raises:
        UserError: It is none.
    """
    config = adapter_config(folder)
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or rank < 1 or not isinstance(alpha, int | float):
        raise _unfit(folder, "its adapter_config.json gives no r and lora_alpha")
    return config


def read_adapter(folder: Path, model: nn.Module, *, dtype: torch.dtype, device: torch.device) -> Adapter:
    """Read an adapter in PEFT's format for a model that `route` has prepared.

    Raises:
        UserError: It holds something else than LoRA, rsLoRA or DoRA on linear layers, or is for another model.
    """
    from safetensors.torch import load_file

    held = adapter_key(folder)
    config = lora_config(folder)
    parts: dict[str, dict[str, Tensor]] = {}
    for key, tensor in load_file(folder / "adapter_model.safetensors").items():
        match = _KEY.fullmatch(key)
        if match is None:
            raise _unfit(folder, f"{key} is not understood")
        parts.setdefault(match["layer"], {})[match["part"]] = tensor.float()
    layers = {}
    for name, tensors in parts.items():
        try:
            linear = model.get_submodule(name)
        except AttributeError as error:
            raise _unfit(folder, f"it changes {name}, which the model has not") from error
        if not isinstance(linear, RoutedLinear) or not tensors.keys() >= _PARTS:
            raise _unfit(folder, f"{name} can't be adapted")
        layers[name] = _layer(tensors, linear.linear.weight, _scale(config, name), dtype=dtype, device=device)
    return Adapter(key=held, layers=layers)


def _layer(
    tensors: Mapping[str, Tensor], weight_OI: Tensor, scale: float, *, dtype: torch.dtype, device: torch.device
) -> LayerAdapter:
    a_RI, b_OR = tensors["A"], tensors["B"] * scale
    magnitude_O = tensors.get("magnitude_vector")
    factor_O = None
    if magnitude_O is not None:
        norm_O = (weight_OI.detach().float().cpu() + b_OR @ a_RI).norm(dim=1)
        factor_O = (magnitude_O.flatten() / norm_O).to(device, dtype)
    # Copied: what safetensors returns is a view of the file, which may be written anew while the adapter is in use.
    return LayerAdapter(a_RI=a_RI.to(device, dtype, copy=True), b_OR=b_OR.to(device, dtype), factor_O=factor_O)


def _scale(config: Mapping[str, Any], name: str) -> float:
    rank = _pattern(config.get("rank_pattern"), name, config["r"])
    alpha = _pattern(config.get("alpha_pattern"), name, config["lora_alpha"])
    return float(alpha / (math.sqrt(rank) if config.get("use_rslora") else rank))


def _pattern(patterns: Mapping[str, float] | None, name: str, default: float) -> float:
    found = (value for key, value in (patterns or {}).items() if re.search(rf"(^|\.){key}$", name))
    return next(found, default)


def _rows_of(adapter: Adapter, adapters: Sequence[Adapter | None], device: torch.device) -> Tensor | None:
    rows = [row for row, one in enumerate(adapters) if one is adapter]
    return None if len(rows) == len(adapters) else torch.tensor(rows, device=device)


def _unfit(folder: Path, reason: str) -> UserError:
    text = f"The tuned model in {folder.name} can't be used with its base model: {reason}."
    return UserError(text, param="model", code="model_not_supported")
