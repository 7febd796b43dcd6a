"""Ways of tuning: which weights train, and the files they are kept in.

Adapters are written in PEFT's format (adapter_config.json, adapter_model.safetensors), which peft, vLLM and
llama.cpp read. Whole models are written as transformers writes them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from local_backend.engine.projection import AdaptedLinear
from local_backend.engine.weights import ModelDir
from local_backend.models.names import adapter_config
from local_backend.task import JobError, ModelRef, UserError

PREFIX = "base_model.model."
"""What PEFT puts before the names of the model's modules."""
_WEIGHTS = "adapter_model.safetensors"
DEFAULTS: Mapping[str, Any] = {"rank": 16, "alpha": 32, "dropout": 0.0, "targets": "all-linear", "variant": "lora"}
"""What an adapter is where its `tune` options don't say."""
BASE_FILE = "base_model.json"
"""Says which weights an adapter was tuned on. PEFT warns of keys that it doesn't know, so its own files can't."""


def add_adapters(model: nn.Module, tune: Mapping[str, Any], *, seed: int) -> list[str]:
    """Freeze the model and put a low-rank update beside its linear layers.

    The start is the same for the same seed, whatever else has drawn random numbers.

    Returns:
        The names of the adapted layers.

    Raises:
        JobError: A target names no linear layer of this model.
    """
    model.requires_grad_(requires_grad=False)
    tune = {**DEFAULTS, **tune}
    rank, variant = int(tune["rank"]), tune["variant"]
    scaling = tune["alpha"] / (math.sqrt(rank) if variant == "rslora" else rank)
    names = targeted(model, tune["targets"])
    generator = torch.Generator().manual_seed(seed)
    for name in names:
        layer = AdaptedLinear(
            model.get_submodule(name),  # type: ignore[arg-type]
            rank=rank,
            scaling=scaling,
            dropout=tune["dropout"],
            is_dora=variant == "dora",
        )
        _start(layer, generator)
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, layer)
    return names


def targeted(model: nn.Module, targets: str | Sequence[str]) -> list[str]:
    """The names of the linear layers that targets name.

    Raises:
        JobError: One of them names none.
    """
    names = [name for name, _ in _block_linears(model) if targets == "all-linear" or _is_target(name, targets)]
    _check_targets(model, names, targets)
    return names


def check_same(own: Mapping[str, Any], asked: Mapping[str, Any], model: nn.Module) -> None:
    """Refuse options that an adapter, which is to be trained on, does not have: it goes on as it is.

    Args:
        own: What the adapter was made with.
        asked: The `tune` options of the job. Defaults ask for nothing.
        model: The base model, without adapters.

    Raises:
        JobError: Something else is asked for.
    """
    for name, default in DEFAULTS.items():
        wanted = asked.get(name, default)
        is_same = wanted in (default, own[name])
        if name == "targets" and not is_same:
            is_same = targeted(model, wanted) == targeted(model, own[name])
        if not is_same:
            has = ", ".join(own[name]) if isinstance(own[name], list) else own[name]
            text = (
                f"The model to start from is an adapter whose {name} is {has}; `{name}` of this job asks for another. "
                "An adapter goes on as it is: leave the option out, or start from the base model."
            )
            raise JobError("invalid_value", text, param=f"local.tune.{name}")


def adapted_layers(model: nn.Module) -> Iterator[tuple[str, AdaptedLinear]]:
    """All adapted layers with their names in the base model."""
    for name, module in model.named_modules():
        if isinstance(module, AdaptedLinear):
            yield name, module


def adapter_dir(model: ModelRef) -> Path | None:
    """The folder of a tuned model that is an adapter; None for whole models and base models."""
    folder = model.tuned_dir
    return folder if folder is not None and (folder / "adapter_config.json").is_file() else None


def save_adapter(model: nn.Module, folder: Path, *, base: ModelDir, tune: Mapping[str, Any]) -> None:
    """Write the adapter in PEFT's format into an existing folder, with the sha256 of the weights it belongs to."""
    tensors = {}
    names = []
    for name, layer in adapted_layers(model):
        names.append(name)
        tensors[f"{PREFIX}{name}.lora_A.weight"] = layer.lora_A
        tensors[f"{PREFIX}{name}.lora_B.weight"] = layer.lora_B
        if layer.magnitude is not None:
            tensors[f"{PREFIX}{name}.lora_magnitude_vector"] = layer.magnitude
    cpu = {name: tensor.detach().float().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(cpu, folder / _WEIGHTS, metadata={"format": "pt"})
    (folder / BASE_FILE).write_text(json.dumps({"name": base.name, "sha256": base.sha256}) + "\n", encoding="utf-8")
    config = _peft_config(base.name, tune, _target_names(model, names))
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def check_base(folder: Path, base: ModelDir) -> None:
    """Refuse an adapter that was tuned on other weights than those of `base`; one that doesn't say is let pass.

    Raises:
        UserError: The weights have changed since, or are others on this machine.
    """
    if not (folder / BASE_FILE).is_file():
        return
    tuned_on = str(json.loads((folder / BASE_FILE).read_text(encoding="utf-8"))["sha256"])
    if tuned_on != base.sha256:
        text = (
            f"The adapter in {folder.name} was tuned on weights of {base.name} with the sha256 {tuned_on[:12]}...,"
            f" and those here have {base.sha256[:12]}..., so its answers would be others. Bring the weights that it was"
            " tuned on, or use a `merged` export of it, which holds them."
        )
        raise UserError(text, param="model", code="base_model_changed")


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """Return the `tune` options that an adapter folder was made with.

    Raises:
        JobError: The adapter doesn't say what it is, or uses parts of PEFT's format that are not supported here.
    """
    try:
        config = adapter_config(folder)
    except UserError as error:
        raise JobError("model_not_supported", error.message, "model") from error
    targets = config.get("target_modules")
    unsupported = [key for key in ("rank_pattern", "alpha_pattern", "modules_to_save") if config.get(key)]
    if isinstance(targets, str) and targets != "all-linear":
        unsupported.append("a pattern as target_modules")
    if config.get("peft_type") != "LORA" or config.get("bias", "none") != "none" or unsupported:
        what = ", ".join(unsupported) or f"peft_type {config.get('peft_type')}, bias {config.get('bias')}"
        raise JobError(
            "model_not_supported", f"The adapter to start from uses {what}, which is not supported.", "model"
        )
    _check_fitting(config)
    return {
        "type": "lora",
        "rank": config["r"],
        "alpha": config["lora_alpha"],
        "dropout": config.get("lora_dropout", 0.0),
        "targets": targets if isinstance(targets, str) else sorted(targets or []),
        "variant": "dora" if config.get("use_dora") else "rslora" if config.get("use_rslora") else "lora",
    }


def _check_fitting(config: Mapping[str, Any]) -> None:
    rank, targets = config.get("r"), config.get("target_modules")
    is_fit = {
        "r": isinstance(rank, int) and rank >= 1,
        "lora_alpha": isinstance(config.get("lora_alpha"), int | float),
        "lora_dropout": isinstance(config.get("lora_dropout", 0.0), int | float),
        "target_modules": isinstance(targets, list | str) and targets and all(isinstance(t, str) for t in targets),
    }
    unfit = [f"`{key}`" for key, fits in is_fit.items() if not fits]
    if unfit:
        text = f"The adapter_config.json of the adapter to start from has no fitting {', '.join(unfit)}."
        raise JobError("model_not_supported", text, "model")


def load_adapter(model: nn.Module, folder: Path) -> None:
    """Read an adapter's weights into the layers that `add_adapters` made.

    Raises:
        JobError: File and model don't have the same layers.
    """
    tensors = load_file(folder / _WEIGHTS)
    for name, layer in adapted_layers(model):
        parts = {"lora_A.weight": layer.lora_A, "lora_B.weight": layer.lora_B}
        if layer.magnitude is not None:
            parts["lora_magnitude_vector"] = layer.magnitude
        for part, parameter in parts.items():
            tensor = tensors.pop(f"{PREFIX}{name}.{part}", None)
            if tensor is None or tensor.shape != parameter.shape:
                raise JobError("model_not_supported", f"The adapter has no fitting weights for layer {name}.", "model")
            parameter.data.copy_(tensor)
    if tensors:
        text = f"The adapter has weights that this model has no place for, such as {min(tensors)}."
        raise JobError("model_not_supported", text, "model")


def _target_names(model: nn.Module, names: Sequence[str]) -> list[str]:
    """The last parts of the layers' names, where they name no other linear layer; else the whole names."""
    short = {name.rpartition(".")[2] for name in names}
    # Adapted layers are no linear ones any more.
    others = {name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    return sorted(names) if short & others else sorted(short)


def _peft_config(base: str, tune: Mapping[str, Any], targets: Sequence[str]) -> dict[str, Any]:
    tune = {**DEFAULTS, **tune}
    variant = tune["variant"]
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": int(tune["rank"]),
        "lora_alpha": tune["alpha"],
        "lora_dropout": tune["dropout"],
        "target_modules": list(targets),
        "use_rslora": variant == "rslora",
        "use_dora": variant == "dora",
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "modules_to_save": None,
    }


def _start(layer: AdaptedLinear, generator: torch.Generator) -> None:
    """A as torch starts a linear layer (uniform, bound 1 / sqrt(inputs)), B zero: the update starts at nothing."""
    bound = 1 / math.sqrt(layer.base.in_features)
    a_RI = torch.empty(layer.lora_A.shape, dtype=torch.float32).uniform_(-bound, bound, generator=generator)
    layer.lora_A.data.copy_(a_RI)
    layer.lora_B.data.zero_()


def _block_linears(model: Any) -> Iterator[tuple[str, nn.Linear]]:
    """The linear layers of the blocks: all but the output layer and those that only look at images."""
    head = model.get_output_embeddings()
    sees = getattr(model.config, "vision_config", None) is not None
    writing = set(model.get_decoder().modules()) if sees else None
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and module is not head and (writing is None or module in writing):
            yield name, module


def _is_target(name: str, targets: str | Sequence[str]) -> bool:
    """PEFT's rule: a target is a module's whole name or its end from a dot on."""
    wanted = [targets] if isinstance(targets, str) else targets
    return any(name == target or name.endswith("." + target) for target in wanted)


def _check_targets(model: nn.Module, names: Sequence[str], targets: str | Sequence[str]) -> None:
    unmatched = [] if targets == "all-linear" else [t for t in targets if not any(_is_target(n, [t]) for n in names)]
    if names and not unmatched:
        return
    known = sorted({name.rpartition(".")[2] for name, _ in _block_linears(model)})
    if known:
        what = f"{unmatched[0]!r} names no linear layer" if unmatched else "There is no linear layer to adapt"
        text = f"{what} of this model. Its linear layers are: {', '.join(known[:20])}."
    else:
        text = "This model has no linear layers to adapt, convolutions say. Train its head or all weights instead."
    raise JobError("invalid_targets", text, param="local.tune.targets")
