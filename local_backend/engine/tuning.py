"""Ways of tuning: low-rank adapters, all weights, the last blocks, the output layer; and how each is kept on disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from local_backend.engine import adapters, decoder
from local_backend.engine.projection import AdaptedLinear
from local_backend.engine.quiet import quiet
from local_backend.task import JobError

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
)
"""What a whole model needs beside its weights to be used on its own."""
_FROZEN_PART, _TRAINED_PART = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def choose_weights(model: Any, options: Mapping[str, Any], *, seed: int) -> None:
    """Choose what trains: adds adapters, or unfreezes weights.

    Raises:
        JobError: The model has no such layers.
    """
    kind = options["type"]
    if kind == "lora":
        adapters.add_adapters(model, options, seed=seed)
        return
    model.requires_grad_(requires_grad=kind == "full")
    if kind == "head":
        _untie(model)
        model.get_output_embeddings().requires_grad_(requires_grad=True)
    elif kind == "last_layers":
        blocks = _blocks(model)
        n = int(options.get("n", 2))
        if n > len(blocks):
            text = f"The model has {len(blocks)} blocks, so the last {n} can't be trained."
            raise JobError("invalid_layers", text, param="local.tune.n")
        for block in blocks[-n:]:
            block.requires_grad_(requires_grad=True)


def merge_adapters(model: nn.Module) -> None:
    """Put every adapter's update into its layer's weights, for good."""
    for name, layer in list(adapters.adapted_layers(model)):
        _replace(model, name, _merged_linear(layer))


def save_whole(model: Any, folder: Path, *, tokenizer_from: Path, beside: Path | None = None) -> None:
    """Write weights (with updates merged), configuration and tokenizer into an existing folder.

    Where most weights don't train, those stand in a file of their own, which checkpoints of one job share: if a folder
    in `beside` has it already, it is linked instead of written again.
    """
    frozen = _frozen_weights(model)
    with merged_for_now(model), quiet():
        if frozen:
            _save_in_two(model, frozen, folder, beside=beside)
        else:
            model.save_pretrained(folder)
    for name in TOKENIZER_FILES:
        if (tokenizer_from / name).is_file():
            shutil.copyfile(tokenizer_from / name, folder / name)


def _frozen_weights(model: Any) -> dict[str, torch.Tensor]:
    """What doesn't train, by name, if that is most of the model and files name it as the module tree does."""
    if not decoder.supports(model.config) or any(adapters.adapted_layers(model)):
        return {}
    frozen = {name: weight.detach() for name, weight in model.named_parameters() if not weight.requires_grad}
    n_frozen = sum(weight.numel() for weight in frozen.values())
    return frozen if 2 * n_frozen > model.num_parameters() else {}


def _save_in_two(model: Any, frozen: Mapping[str, torch.Tensor], folder: Path, *, beside: Path | None) -> None:
    """Write the trained weights, and write or link the others, as two parts with an index.

    Only a checkpoint that is whole is linked to: what a power cut has left of another may have holes.
    """
    trained = {name: weight.detach() for name, weight in model.named_parameters() if weight.requires_grad}
    model.save_pretrained(folder, state_dict=dict(trained))  # which it empties
    (folder / "model.safetensors").rename(folder / _TRAINED_PART)
    known = next(beside.glob(f"step-*/{_FROZEN_PART}"), None) if beside else None
    try:
        if known is None:
            raise FileNotFoundError
        (folder / _FROZEN_PART).hardlink_to(known)
    except OSError:  # no such file yet, or a file system without links
        save_file(dict(frozen), folder / _FROZEN_PART, metadata={"format": "pt"})
    places = {**dict.fromkeys(frozen, _FROZEN_PART), **dict.fromkeys(trained, _TRAINED_PART)}
    size = sum(weight.numel() * weight.itemsize for weight in (*frozen.values(), *trained.values()))
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(places.items()))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")


@contextmanager
def merged_for_now(model: nn.Module) -> Iterator[None]:
    """Within the block, plain linear layers with the updates in them stand in for adapted ones."""
    layers = list(adapters.adapted_layers(model))
    try:
        for name, layer in layers:  # which may run out of memory
            _replace(model, name, _merged_linear(layer))
        yield
    finally:
        for name, layer in layers:
            _replace(model, name, layer)


def _merged_linear(layer: AdaptedLinear) -> nn.Linear:
    base = layer.base
    merged = nn.Linear(base.in_features, base.out_features, bias=False, device="meta")
    with torch.no_grad():
        merged.weight = nn.Parameter(layer.merged().to(base.weight.dtype), requires_grad=False)
    merged.bias = base.bias
    return merged


def _replace(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, layer)


def _untie(model: Any) -> None:
    """Give the output layer weights of its own, or training it would change what the model reads."""
    head = model.get_output_embeddings()
    if head.weight is model.get_input_embeddings().weight:
        head.weight = nn.Parameter(head.weight.detach().clone())
        model.config.tie_word_embeddings = False


def _blocks(model: Any) -> nn.ModuleList:
    """The decoder's blocks: the longest list of modules there is."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    return max(lists, key=len)
