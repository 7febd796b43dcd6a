"""Running a python grader's code where it can read no file, no environment, no network, and not run on for ever.

The code runs in a process of its own (`jail`): Landlock takes away files and TCP, a seccomp filter everything else that
is not computing (sockets, processes, threads, other processes' memory, privileges), rlimits bound processor time and
memory, and this side ends the process when its time is over. What the code may still read are the folders of Python's
own library, of the packages that it imports, and of what those import. Where one of these cannot be had, the grader is
refused.

What stays visible: whether a path exists, and what `stat` says of it (size, owner, times), but not what is in a file or
folder, nor where a link leads. Landlock does not cover `stat`, and answers otherwise for a file that is shut than for
one that is not there; a filter of system calls sees no paths. Python's imports need both, also in the midst of a run
(`strptime` imports `_strptime`, say), so that taking them away would break honest graders. Nothing but the reward, or
the text of an error, leaves the process.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import math
import os
import platform
import select
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

from ftclient.errors import UnsupportedError

_JAIL = Path(__file__).with_name("jail.py")
_MOST_ANSWER_BYTES = 64 * 1024
_START_S = 20.0
"""Room for starting Python and importing packages, before the code's own time begins to count."""
_PACKAGES = frozenset(
    {"numpy", "scipy", "sympy", "pandas", "rapidfuzz", "sklearn", "rouge_score", "deepdiff", "jsonschema", "pydantic"}
    | {"yaml", "nltk", "sqlparse"}
)
"""What OpenAI's image 2025-05-08 offers to graders beside the standard library; here as far as it is installed."""
_NATIVE = frozenset({"bz2", "decimal", "hashlib", "lzma", "sqlite3", "zlib"})
"""Modules of the standard library behind which stand libraries of the system, which are out of reach later."""
_INSTALLED = frozenset({"site-packages", "dist-packages"})
"""Folders of installed packages, which outside of a virtual environment lie within that of the standard library."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a grader may use. The defaults are those of OpenAI and Azure for one run."""

    time_s: float = 120.0
    """By the clock."""
    cpu_s: int = 120
    memory_bytes: int = 2 * 2**30
    """Address space, with Python itself and the packages."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of the code: a reward, or what went wrong."""

    reward: float | None
    error: str | None = None


def require_sandbox() -> None:
    """Refuse where the code could not be shut in.

    Raises:
        UnsupportedError: The text says what is missing.
    """
    missing = _missing()
    if missing:
        raise UnsupportedError(f"Python graders do not run here: {missing}. Use another type of grader.")


@lru_cache(maxsize=1)
def _missing() -> str | None:
    if sys.platform != "linux":
        return f"they need Linux's Landlock and seccomp, and this is {platform.system()}"
    from ftclient.evaluate.graders import jail

    if platform.machine() not in jail.MACHINES:
        return f"system calls are filtered on {' and '.join(jail.MACHINES)} only, and this is {platform.machine()}"
    if jail.landlock_abi() < 1:
        return "this kernel has no Landlock (Linux 5.13 and later has it, where it is switched on)"
    return None


def run_python(
    source: str, *, sample: Mapping[str, Any], item: Mapping[str, Any], limits: Limits | None = None
) -> Outcome:
    """Call the source's `grade(sample, item)` in a process that can do nothing else.

    Args:
        source: Python code.
        sample: What the model answered.
        item: The example's fields.
        limits: None is OpenAI's.

    Raises:
        UnsupportedError: The code could not be shut in on this machine.
    """
    require_sandbox()
    bounds = limits or Limits()
    job = {"source": source, "sample": sample, "item": item, **_surroundings(source, bounds)}
    with tempfile.TemporaryFile() as file:
        file.write(json.dumps(job).encode())
        file.seek(0)
        said = _run(file, bounds)
    return _outcome(said, bounds)


def _surroundings(source: str, limits: Limits) -> dict[str, Any]:
    named = _named_in(source)
    imports = _to_import(named)
    paths = sysconfig.get_paths()
    standard = {os.path.realpath(paths[kind]) for kind in ("stdlib", "platstdlib")}
    packages = [os.path.realpath(place) for name in imports if name in _PACKAGES and (place := _folder_of(name))]
    roots = list(dict.fromkeys(str(Path(place).parent) for place in packages))
    return {
        "imports": imports,
        "parts": [name for name in named if _is_part(name)],
        "listable": sorted(standard),
        "readable": _parts_of(standard),
        "packages": roots,
        "path": [*sorted(standard), *(f"{place}/lib-dynload" for place in sorted(standard)), *roots],
        "machine": platform.machine(),
        "limits": {name: int(value) for name, value in asdict(limits).items()},
    }


def _parts_of(folders: Iterable[str]) -> list[str]:
    """What lies in the folders of the standard library, but for the packages that are installed inside of one."""
    places = (place for folder in sorted(folders) for place in sorted(Path(folder).iterdir()))
    return [str(place) for place in places if place.name not in _INSTALLED and place.exists()]


def _named_in(source: str) -> list[str]:
    """What the source imports, and what it takes out of that, which may be modules too."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return list(dict.fromkeys(found))


def _is_part(name: str) -> bool:
    """Whether a name may be a module within a package that is offered; those with an underscore are not for others."""
    top, *inner = name.split(".")
    return top in _PACKAGES and bool(inner) and not any(part.startswith(("_", "*")) for part in inner)


def _to_import(named: Iterable[str]) -> list[str]:
    """The packages to import before the doors are shut: native code is loaded from places that are shut later."""
    tops = dict.fromkeys(name.partition(".")[0] for name in named)
    wanted = [*sorted(_NATIVE), *(name for name in tops if name in _PACKAGES)]
    return [name for name in wanted if importlib.util.find_spec(name)]


def _folder_of(name: str) -> str | None:
    spec = importlib.util.find_spec(name)
    places = spec.submodule_search_locations if spec else None
    return next(iter(places), None) if places else None


def _run(job: IO[bytes], limits: Limits) -> bytes | None:
    """Start the process, and return what it wrote; None when its time was over."""
    # One thread each: threads that a package starts before the doors are shut would stay outside.
    environment = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [sys.executable, "-I", "-S", "-B", str(_JAIL)]
    with subprocess.Popen(  # noqa: S603 - our own program
        command,
        stdin=job,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        cwd="/",
        start_new_session=True,
    ) as process:
        try:
            return _read(process, deadline=time.monotonic() + _START_S + limits.time_s, time_s=limits.time_s)
        finally:
            _end(process)


def _read(process: subprocess.Popen[bytes], *, deadline: float, time_s: float) -> bytes | None:
    assert process.stdout is not None  # noqa: S101 - a pipe was asked for
    said = b""
    while len(said) <= _MOST_ANSWER_BYTES:
        ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return None
        piece = os.read(process.stdout.fileno(), 65536)
        if not piece:
            return said
        if piece.startswith(b"\n") and not said:  # the doors are shut: from now on it is the code's own time
            deadline = min(deadline, time.monotonic() + time_s)
        said += piece
    return said


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _outcome(said: bytes | None, limits: Limits) -> Outcome:
    if said is None:
        return Outcome(reward=None, error=f"the grader took longer than {limits.time_s:g} s and was ended")
    # What comes after the empty line may be written by the code itself: it is believed no further than it has to be.
    is_shut_in = said.startswith(b"\n")
    try:
        found = json.loads(said)
    except (ValueError, RecursionError):
        return Outcome(reward=None, error="the grader's process was ended: it used more time or memory than it may")
    if not isinstance(found, dict):
        return Outcome(reward=None, error="the grader's process ended without a reward")
    if "refused" in found and not is_shut_in:
        raise UnsupportedError(f"Python graders do not run here: {found['refused']}.")
    reward, error = found.get("reward"), found.get("error")
    if isinstance(reward, float) and math.isfinite(reward):
        return Outcome(reward=reward)
    return Outcome(reward=None, error=str(error)[:600] if error else "the grader's process ended without a reward")
