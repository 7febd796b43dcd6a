"""The part of a classifier below its last layer: from texts or images to the features that the last layer reads.

Shapes: B examples, T tokens, D width, W width of the features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from local_backend.engine.classify import packed
from local_backend.engine.classify.kinds import Kind
from local_backend.engine.classify.readers import ImageReader, Reader, TextReader, reader_of
from local_backend.engine.complete import load_complete, placed
from local_backend.engine.device import Machine
from local_backend.engine.projection import project
from local_backend.engine.quiet import quiet
from local_backend.task import JobError, UserError

Inputs = Sequence[Any]
"""What `read` returned: token ids of a text, or the bytes of an image."""

LAST_LAYERS = ("classifier", "score", "fc", "head")
"""Names that image classifiers of transformers give their last layer."""
_AGREEMENT = 1e-3
"""Largest difference between our states and transformers', in shares of the largest state."""


class Body(Protocol):
    """Turns examples into features."""

    model: Any
    """The module whose weights may train; its last layer is not among them."""
    width: int
    way: str
    """How it is computed, in words."""
    reader: Reader
    """Makes of examples what `features` takes."""

    def features(self, inputs: Inputs) -> torch.Tensor:
        """Return what the last layer reads (B, W), with gradients where weights train."""


class TextBody:
    """A text encoder or decoder and the pooling that it was made for."""

    def __init__(self, model: Any, reader: TextReader, kind: Kind) -> None:
        self.model = model
        self.kind = kind
        self.width = int(model.config.get_text_config().hidden_size)
        self.reader = reader
        is_near = next(model.parameters()).device.type == "cpu"
        self.is_packed = is_near and kind.model_type in packed.MODEL_TYPES
        if self.is_packed and not _agrees(model):
            self.is_packed = False
        if not self.is_packed:
            speed_up(model)
        self.way = "texts side by side, without padding" if self.is_packed else "texts of similar length, padded"

    def features(self, inputs: Inputs) -> torch.Tensor:
        """Pooled states (B, W)."""
        if self.is_packed:
            layout = packed.lay_out(inputs)
            return self.pool(packed.run_blocks(self.blocks(), packed.embed(self.model, layout), layout), layout)
        return self._padded_features(inputs)

    def blocks(self) -> Sequence[Any]:
        """The packed encoder's blocks."""
        return list(packed.blocks_of(self.model))

    def pool(self, x_TD: torch.Tensor, layout: packed.Layout) -> torch.Tensor:
        """Pool the last block's states, a text each."""
        if self.kind.pooling == "mean":
            return packed.mean_by_text(x_TD, layout)
        if self.kind.pooling == "last":
            return x_TD[layout.starts_B + layout.lengths_B - 1]
        first_BD = x_TD[layout.starts_B]
        if self.kind.pooling == "cls":
            return first_BD
        pooler = self.model.pooler
        out: torch.Tensor = pooler.activation(project(first_BD, [pooler.dense]))
        return out

    def _padded_features(self, inputs: Inputs) -> torch.Tensor:
        """By transformers' own forward pass. Padding stands at the right, where no real token sees it."""
        longest = max(len(ids) for ids in inputs)
        device = next(self.model.parameters()).device
        pad = self.reader.pad_id
        ids_BT = torch.tensor([[*ids, *[pad] * (longest - len(ids))] for ids in inputs], device=device)
        lengths_B = torch.tensor([len(ids) for ids in inputs], device=device)
        mask_BT = (torch.arange(longest, device=device)[None, :] < lengths_B[:, None]).long()
        out = self.model(input_ids=ids_BT, attention_mask=mask_BT)
        states_BTD = out.last_hidden_state
        if self.kind.pooling == "mean":
            weights_BT1 = mask_BT.unsqueeze(2).to(states_BTD.dtype)
            return (states_BTD * weights_BT1).sum(1) / weights_BT1.sum(1)  # type: ignore[no-any-return]
        if self.kind.pooling == "last":
            return states_BTD[torch.arange(len(inputs), device=device), lengths_B - 1]  # type: ignore[no-any-return]
        return out.pooler_output if self.kind.pooling == "pooler" else states_BTD[:, 0]  # type: ignore[no-any-return]


class ImageBody:
    """An image model of transformers, whose own classifier decides what is pooled; its last layer is taken off."""

    way = "images in batches"

    def __init__(self, model: Any, reader: ImageReader, kind: Kind) -> None:
        self.model = model
        self.kind = kind
        self.last_layer_name, layer = last_layer(model)
        self.width = layer.in_features
        put_layer(model, self.last_layer_name, nn.Identity())
        speed_up(model)
        self.reader = reader

    def features(self, inputs: Inputs) -> torch.Tensor:
        """What the model's own classifier would read (B, W)."""
        return self.pixel_features(self.pixels(inputs))

    def pixels(self, inputs: Inputs) -> torch.Tensor:
        """What the model's processor makes of some images (B, C, H, W)."""
        return self.reader.pixels(inputs)

    def pixel_features(self, pixels_BCHW: torch.Tensor) -> torch.Tensor:
        """Features of images that have been through the processor, and perhaps been changed."""
        found = self.model(pixel_values=pixels_BCHW.to(next(self.model.parameters()).device)).logits
        out: torch.Tensor = found
        return out


def load_body(folder: Path, kind: Kind, *, machine: Machine) -> TextBody | ImageBody:
    """Load the part of a model below its last layer.

    Raises:
        JobError: transformers can't load it, or not all of its weights are there.
    """
    import transformers

    auto = transformers.AutoModel if kind.modality == "text" else transformers.AutoModelForImageClassification
    try:
        with quiet():
            options = {"dtype": machine.dtype, "local_files_only": True, "use_safetensors": True}
            is_new = _is_pooler if kind.modality == "text" else _is_last_layer
            model, missing = load_complete(auto, folder, is_new=is_new, **options)
        reader = reader_of(folder, kind)
    except (OSError, ValueError, RuntimeError) as error:
        text = f"The model can't be loaded as a classifier: {str(error)[:300]}"
        raise JobError("model_not_supported", text, "model") from error
    except UserError as error:
        raise JobError(error.code or "model_not_supported", error.message, "model") from error
    if kind.modality == "text" and kind.pooling == "pooler" and missing:
        kind = replace(kind, pooling="mean")  # of the tokens, as the pooler has never been trained
    # Without dropout: it would make frozen parts different every time, and small models gain nothing by it.
    model = placed(model, folder, machine.device).eval()
    return ImageBody(model, reader, kind) if isinstance(reader, ImageReader) else TextBody(model, reader, kind)


def _is_pooler(name: str) -> bool:
    return name.startswith("pooler.")


def _is_last_layer(name: str) -> bool:
    """Whether a weight belongs to what `last_layer` finds: it is taken off, so it need not have been trained."""
    return name.partition(".")[0] in LAST_LAYERS


def last_layer(model: nn.Module) -> tuple[str, nn.Linear]:
    """Name and module of a classifier's last linear layer.

    Raises:
        JobError: There is none.
    """
    for name in LAST_LAYERS:
        found = getattr(model, name, None)
        if isinstance(found, nn.Linear):
            return name, found
        if isinstance(found, nn.Sequential) and isinstance(found[-1], nn.Linear):
            return f"{name}.{len(found) - 1}", found[-1]
    kind = type(model).__name__
    raise JobError("model_not_supported", f"{kind} has no last linear layer that could be replaced.", "model")


def put_layer(model: nn.Module, name: str, layer: nn.Module) -> None:
    """Put a layer in the place of another."""
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, layer)


def blocks_in_order(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """A model's blocks with their names, the lowest first: the members of module lists that hold no further lists."""
    found = []
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList):
            holds_lists = any(isinstance(one, nn.ModuleList) for member in module for one in member.modules())
            has_weights = any(True for _ in module.parameters())
            if not holds_lists and has_weights:
                found += [(f"{name}.{i}", member) for i, member in enumerate(module)]
    return found


def speed_up(model: nn.Module) -> None:
    """Let linear layers multiply by the machine's fastest library (see `engine.matmul`)."""
    for module in model.modules():
        if type(module) is nn.Linear and module.weight.device.type == "cpu":
            module.forward = _Fast(module)  # type: ignore[assignment]  # what nn.Module looks up is called alike


class _Fast:
    """The forward pass of a linear layer through `project`."""

    def __init__(self, layer: nn.Linear) -> None:
        self._layer = layer

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return project(x.flatten(0, -2), [self._layer]).view(*x.shape[:-1], -1)


def _agrees(model: Any) -> bool:
    """Whether the packed forward pass gives what transformers gives, on two short texts."""
    limit = int(model.config.vocab_size)
    texts = [[(7 * i * i + 11 * i + 3) % limit for i in range(n)] for n in (12, 7)]
    try:
        with torch.no_grad():
            layout = packed.lay_out(texts)
            ours_TD = packed.run_blocks(list(packed.blocks_of(model)), packed.embed(model, layout), layout)
            theirs_TD = torch.cat([model(input_ids=torch.tensor([ids])).last_hidden_state[0] for ids in texts])
    except (AttributeError, TypeError):  # another version of transformers calls its modules otherwise
        return False
    return float((ours_TD - theirs_TD).abs().max()) <= _AGREEMENT * float(theirs_TD.abs().max())
