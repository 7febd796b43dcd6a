"""What this machine needs for its work, measured once for each model and way of tuning, and kept.

A file a measurement, in a folder beside the models' own: named by what it depends on, which stands in it too.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from local_backend.engine.device import Machine
from local_backend.engine.forecast.costs import Costs, Rate
from local_backend.engine.weights import ModelDir
from local_backend.task import MeasureProgress

FORMAT = 1
FRESH_S = 30 * 24 * 3600.0
"""Machines change: after so long it is measured again."""
DISTURBED_FRESH_S = 3600.0
"""So long it holds if other programs were busy while it was measured."""
MOST_S = 120.0

log = logging.getLogger("local_backend.forecast")

NOT_MEASURED = "How fast this machine is could not be measured: the time is a guess, as for a machine of two cores."

_lock = threading.Lock()


def calibrate(
    base: ModelDir,
    *,
    machine: Machine,
    tune: Mapping[str, Any],
    runtime: Mapping[str, Any],
    folder: Path,
    progress: MeasureProgress | None = None,
) -> Costs | None:
    """Return what was measured of this machine for a model, or measure it now (some ten seconds).

    Returns:
        None where it could not be measured.
    """
    key = key_of(base, machine, tune)
    file = folder / f"{hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:24]}.json"
    with _lock:  # two plans at once would disturb each other's measurement
        kept = read(file)
        if kept is not None:
            return kept
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            is_disturbed = _is_busy(machine.threads)
            found = _measure(base, tune, runtime, folder, progress)
            if found is not None:
                _write(file, key, found, fresh_s=DISTURBED_FRESH_S if is_disturbed else FRESH_S)
        except OSError as error:  # no room, or no right to write there: a plan is possible all the same
            log.warning("this machine could not be measured: %s", error.strerror)
            return None
    return found


def key_of(base: ModelDir, machine: Machine, tune: Mapping[str, Any]) -> dict[str, Any]:
    """What the measurement depends on."""
    on_gpu = machine.device.type == "cuda"
    return {
        "format": FORMAT,
        "code": version("ftclient"),
        "model": base.name,
        "weights": base.sha256,
        "tune": {"type": "lora", **{name: value for name, value in tune.items() if name not in {"alpha", "targets"}}},
        "targets": str(tune.get("targets", "all-linear")),
        "device": torch.cuda.get_device_name(machine.device) if on_gpu else platform.processor() or platform.machine(),
        "node": platform.node(),
        "precision": machine.precision,
        "threads": machine.threads,
        "torch": torch.__version__,
    }


def read(file: Path) -> Costs | None:
    """What was kept in a file, if it is there, whole, and not too old."""
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        if not 0 <= time.time() - kept["made_at"] < kept["fresh_s"]:
            return None
        return costs_from(kept["costs"])
    except (OSError, ValueError, KeyError, TypeError):  # none, half of one, or another version's: measured anew
        return None


def costs_from(kept: Mapping[str, Any]) -> Costs:
    """Return costs as they were before they became JSON."""
    rates = {name: Rate(**kept[name]) for name in ("train", "forward")}
    return Costs(**{**kept, **rates})


def _write(file: Path, key: Mapping[str, Any], costs: Costs, *, fresh_s: float) -> None:
    kept = {"key": key, "made_at": time.time(), "fresh_s": fresh_s, "costs": asdict(costs)}
    new = file.with_suffix(f".{os.getpid()}.new")
    new.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    new.replace(file)


def _is_busy(threads: int) -> bool:
    """Whether other programs have taken up half of the processor of late."""
    return os.getloadavg()[0] > 0.5 * threads


def _measure(
    base: ModelDir, tune: Mapping[str, Any], runtime: Mapping[str, Any], folder: Path, progress: MeasureProgress | None
) -> Costs | None:
    """Measure in a process of its own, and time its start."""
    request = {
        "model_dir": str(base.path.absolute()),
        "tune": dict(tune),
        "runtime": dict(runtime),
        "folder": str(folder.absolute()),
    }
    started = time.perf_counter()
    process = subprocess.Popen(  # noqa: S603 - our own module, no shell
        [sys.executable, "-m", f"{__package__}.measure", json.dumps(request)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=_environment(),
    )
    timer = threading.Timer(MOST_S, process.kill)
    timer.start()
    try:
        return _listen(process, started, progress)
    finally:
        timer.cancel()
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _listen(process: subprocess.Popen[str], started: float, progress: MeasureProgress | None) -> Costs | None:
    start_s = None
    for line in process.stdout or ():
        told = json.loads(line)
        start_s = start_s or time.perf_counter() - started
        if "costs" in told:
            return costs_from({**told["costs"], "start_s": start_s})
        if progress is not None:
            progress(told["done"], told["of"], told["what"])
    return None


def _environment() -> dict[str, str]:
    """This process's environment, in which the same modules are found."""
    here = str(Path(__file__).resolve().parents[3])
    paths = [here, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1"}
