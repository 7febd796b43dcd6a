"""Peak memory of a process and its children, as summed proportional set size (PSS), from /proc."""

from __future__ import annotations

import resource
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

_EVERY_S = 0.1


class Watched(NamedTuple):
    """What a command did."""

    output: str
    wall_s: float
    cpu_s: float
    """Processor time of all its processes, where it is not shared with anybody else."""
    peak_bytes: int
    """Peak PSS."""


def run_and_watch(command: list[str]) -> Watched:
    """Run a command to its end."""
    start, cpu_before = time.perf_counter(), _children_cpu_s()
    peak_bytes = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            peak_bytes = max(peak_bytes, sum(_pss_bytes(pid) for pid in _tree(process.pid)))
            time.sleep(_EVERY_S)
        seconds = time.perf_counter() - start
        output = process.stdout.read()
    if process.returncode:
        raise RuntimeError(f"{command[:3]} ended with {process.returncode}")
    return Watched(output, seconds, _children_cpu_s() - cpu_before, peak_bytes)


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _tree(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return [pid]
    return [pid, *(found for child in children for found in _tree(int(child)))]


def _pss_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0  # it has just ended
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
