"""The one runner of all benchmarks.

A benchmark is a file of this folder with a function `run(options) -> Iterable[Result]`. Each result compares two
figures of the same run on the same machine and says what ratio is to be reached.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

_NO_BENCHMARK = {"__init__", "__main__", "runner", "memory"}


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line asks for."""

    data: Path | None
    """Folder with real files; None generates data."""
    scale: float
    """1 is the size that the figures in the documents are for; less is for trying."""
    rest: list[str]
    """Words that only this benchmark understands."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """One figure."""

    name: str
    value: float
    unit: str
    reach: str = ""
    """What is to be reached, in words."""
    ok: bool | None = None
    """Whether it was reached; None where nothing is asked."""
    details: dict[str, Any] = field(default_factory=dict)


def names() -> list[str]:
    """All benchmarks."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in _NO_BENCHMARK)


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark that the command line names; exit code 1 if a figure is not reached."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("name", choices=names())
    parser.add_argument("--data", type=Path, help="folder with real files; without it data are generated")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full size, for trying (default 1)")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    known, rest = parser.parse_known_args(arguments)
    benchmark = importlib.import_module(f"tests.benchmarks.{known.name}")
    options = Options(data=known.data, scale=known.scale, rest=rest)
    results = list(_shown(benchmark.run(options), quietly=known.json))
    if known.json:
        print(json.dumps({"machine": machine(), "results": [asdict(result) for result in results]}, indent=2))
    sys.exit(any(result.ok is False for result in results))


def _shown(results: Iterable[Result], *, quietly: bool) -> Iterable[Result]:
    for result in results:
        verdict = {True: "reached", False: "NOT REACHED", None: ""}[result.ok]
        line = f"{result.name:48} {result.value:12,.2f} {result.unit:10} {result.reach:12} {verdict}"
        print(line, result.details or "", file=sys.stderr if quietly else sys.stdout, flush=True)
        yield result


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {"python": platform.python_version(), "system": platform.platform(), "processors": os.cpu_count()}
