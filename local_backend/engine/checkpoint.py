"""What a run leaves on disk: usable models at epoch ends, and the point it can go on from.

A folder appears whole or not at all: it is written under a temporary name, fsynced file by file, renamed, and its
parent fsynced. No pickle: tensors are safetensors, everything else is JSON.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from local_backend.room import is_no_room
from local_backend.task import JobError

FORMAT = 1
"""Version of the resume point; another one is refused with words."""


@dataclass
class Progress:
    """How far a run has come; all that a resume needs besides tensors."""

    step: int = 0
    """Finished optimizer steps."""
    trained_tokens: int = 0
    best_loss: float | None = None
    best_step: int | None = None
    bad_epochs: int = 0
    """Epochs since the validation loss was last better."""
    micro_batch_tokens: int = 0
    setting: dict[str, Any] = field(default_factory=dict)
    """What the arithmetic depends on (threads, versions, sizes); resuming under another one is not bit-identical."""


@contextlib.contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Give a temporary folder that becomes `target` at the end of the block, durably and at once.

    However the block is left before its end, nothing of the folder remains.

    Raises:
        JobError: The disk is full.
    """
    temporary = target.with_name(f".{target.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        _make_folder(target.parent)
        temporary.mkdir(mode=0o700)
        yield temporary
        for file in temporary.rglob("*"):
            _fsync(file)
        _fsync(temporary)
        _put(temporary, target)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if not is_no_room(error):
            raise
        text = f"The disk is full: {target.parent.name}/{target.name} could not be written. Free some space."
        raise JobError("disk_full", text) from error


def save_resume_point(
    folder: Path, *, progress: Progress, parameters: list[tuple[str, nn.Parameter]], optimizer: torch.optim.Optimizer
) -> None:
    """Write weights, optimizer and position after a step; older points are removed once the new one is durable."""
    target = folder / f"step-{progress.step:08d}"
    with whole_folder(target) as new:
        save_file(
            {name: parameter.detach().cpu().contiguous() for name, parameter in parameters}, new / "weights.safetensors"
        )
        save_file(_optimizer_tensors(parameters, optimizer), new / "optimizer.safetensors")
        state = {"format": FORMAT, "progress": asdict(progress), "random": _random_state(_gpu(parameters))}
        (new / "state.json").write_text(json.dumps(state), encoding="utf-8")
    for old in folder.iterdir():
        if old != target:
            shutil.rmtree(old, ignore_errors=True)


def load_resume_point(
    folder: Path, *, parameters: list[tuple[str, nn.Parameter]], optimizer: torch.optim.Optimizer
) -> Progress | None:
    """Restore the newest resume point into parameters and optimizer; None where there is none.

    Raises:
        JobError: It was written by another version, or for other weights.
    """
    points = sorted(path for path in folder.glob("step-*") if (path / "state.json").is_file())
    if not points:
        return None
    state = json.loads((points[-1] / "state.json").read_text(encoding="utf-8"))
    if state["format"] != FORMAT:
        text = f"The resume point has format {state['format']}, this version reads {FORMAT}. Start the job anew."
        raise JobError("resume_point_unreadable", text)
    weights = load_file(points[-1] / "weights.safetensors")
    if weights.keys() != dict(parameters).keys():
        raise JobError("resume_point_unreadable", "The resume point belongs to other weights. Start the job anew.")
    for name, parameter in parameters:
        parameter.data.copy_(weights[name])
    _restore_optimizer(load_file(points[-1] / "optimizer.safetensors"), parameters, optimizer)
    _restore_random(state["random"], _gpu(parameters))
    return Progress(**state["progress"])


def _optimizer_tensors(
    parameters: list[tuple[str, nn.Parameter]], optimizer: torch.optim.Optimizer
) -> dict[str, torch.Tensor]:
    return {
        f"{key}/{name}": value.detach().cpu().contiguous()
        for name, parameter in parameters
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def _restore_optimizer(
    tensors: dict[str, torch.Tensor], parameters: list[tuple[str, nn.Parameter]], optimizer: torch.optim.Optimizer
) -> None:
    by_name = dict(parameters)
    for full_name, tensor in tensors.items():
        key, _, name = full_name.partition("/")
        # The count of steps, too: a fused optimizer reads it where the weights are.
        optimizer.state[by_name[name]][key] = tensor.to(by_name[name].device)


def _gpu(parameters: list[tuple[str, nn.Parameter]]) -> torch.device | None:
    """The GPU that a run computes on, if it does; it need not be the process's current one."""
    return next((parameter.device for _, parameter in parameters if parameter.device.type == "cuda"), None)


def _random_state(gpu: torch.device | None) -> dict[str, str]:
    states = {"cpu": torch.get_rng_state()}
    if gpu is not None:
        states["cuda"] = torch.cuda.get_rng_state(gpu)
    return {device: base64.b64encode(state.numpy().tobytes()).decode() for device, state in states.items()}


def _restore_random(states: dict[str, str], gpu: torch.device | None) -> None:
    restored = {
        device: torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)
        for device, text in states.items()
    }
    torch.set_rng_state(restored["cpu"])
    if "cuda" in restored and gpu is not None:
        torch.cuda.set_rng_state(restored["cuda"], gpu)


def _put(new: Path, target: Path) -> None:
    """Let a folder take the place of one that may be in use: it is away for no longer than a renaming takes."""
    old = target.with_name(f".{target.name}.old")
    if target.is_dir():
        shutil.rmtree(old, ignore_errors=True)
        target.replace(old)
    new.replace(target)
    _fsync(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, durably."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        _fsync(folder.parent)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
