"""Whether each of three tasks gets its right verdict, on the real model: tune, look it up, leave it as it is."""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ftclient import Client, Dataset
from ftclient.approaches import Outcome, Outcomes, compare
from tests.benchmarks.runner import Options, Result

MODEL = "smollm2-135m"
EXAMPLE = Path(__file__).parents[2] / "examples" / "14_is_tuning_the_answer" / "compare.py"
_LONGEST_S = 900


def run(options: Options) -> Iterator[Result]:
    """Run the tasks that are named, or all; jobs and answers are made anew."""
    for name in options.rest or ["tickets", "handbook", "feelings"]:
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            found = outcomes(name, Path(folder), share=options.scale)
            seconds = time.perf_counter() - started
        for each in found.outcomes:
            yield Result(name=f"{name}: {each.name}", value=each.figure.value, unit=found.comparison.main.metric.name)
        yield _verdict(name, found)
        yield Result(name=f"{name}: in all", value=seconds, unit="s", reach="< 900 s", ok=seconds < _LONGEST_S)


def outcomes(name: str, folder: Path, *, share: float = 1.0) -> Outcomes:
    """Return what came of one of the example's tasks; `share` takes less of its questions."""
    spec = importlib.util.spec_from_file_location("three_tasks", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    example: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    train, test, wishes = getattr(example, name)(folder)
    asked = Dataset(list(test)[: max(4, round(share * len(test)))])
    with Client.local(home=folder / "home") as client:
        return compare(client, train, asked, model=MODEL, wishes=wishes)


def _verdict(name: str, found: Outcomes) -> Result:
    reach, holds = _RIGHT[name]
    ok = holds(found)
    details = {"verdict": found.verdict.advice, "reasons": list(found.verdict.reasons)}
    return Result(name=f"{name}: verdict", value=float(ok), unit="", reach=reach, ok=ok, details=details)


def _is_apart(found: Outcomes) -> bool:
    """Whether LoRA is first, and no interval of an untrained approach touches its own."""
    first = found.outcomes[0]
    untrained = [each for each in found.outcomes if each.trained is None]
    return first.name == "lora" and all(_below(each, first) for each in untrained)


def _below(one: Outcome, other: Outcome) -> bool:
    return one.figure.interval.high < other.figure.interval.low


_RIGHT: dict[str, tuple[str, Callable[[Outcomes], bool]]] = {
    "tickets": ("LoRA first, apart", _is_apart),
    "handbook": ("RAG before LoRA", lambda found: _below(found.outcome("lora"), found.outcome("rag"))),
    "feelings": ("do not tune", lambda found: not found.verdict.is_to_tune),
}
