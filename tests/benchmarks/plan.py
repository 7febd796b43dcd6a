"""Plans: their token totals against the published formula written down once more, and how long they take.

The formula is that of OpenAI's cookbook ("How to count tokens with tiktoken"): 3 a message, all its values encoded, 1
more with a name, and 3 an example. The time is that of the whole command `ftclient plan` in a process of its own, for
a host that cannot be reached. `local` as a further word plans at the local backend with a real model, too; there the
tokens of files this large are an estimate, whose margin is shown.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from ftclient import Dataset, hosts
from ftclient.cost.tokens import check_and_count, count_tokens
from tests.benchmarks.data_check import FILES, _real, generated, write
from tests.benchmarks.memory import run_and_watch
from tests.benchmarks.runner import Options, Result

N_EXAMPLES = 100_000
MAX_S = 10.0
LOCAL_MODEL = "smollm2-135m"
MODELS = {"gpt-4.1-mini": "o200k_base", "gpt-3.5-turbo": "cl100k_base"}


def run(options: Options) -> Iterator[Result]:
    """Compare totals on all files, then time plans of many examples."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = sorted(options.data.glob("*.jsonl")) if options.data else list(_generated(folder))
        for path in files:
            for model in MODELS:
                yield _totals(path, model)
        for case, (file, _) in FILES.items():
            path = folder / "many.jsonl"
            seeds = _real(options.data / file) if options.data else generated(case)
            write(path, seeds, int(N_EXAMPLES * options.scale), is_unique="unique" in case)
            yield _timed(f"plan: {case}", path, "--model", "gpt-4.1-mini")
            if "local" in options.rest:
                yield _timed_locally(case, path)
        yield _timed("plan: all hosts and models", path, "--compare", "--calls-per-day", "1000")


def _generated(folder: Path) -> Iterator[Path]:
    for number, case in enumerate(FILES):
        path = folder / f"{number}.jsonl"
        write(path, generated(case), 1_000, is_unique="unique" in case)
        yield path


def _totals(path: Path, model: str) -> Result:
    """Compare one file's total with that of the formula."""
    data = Dataset.read(path)
    found = count_tokens(check_and_count(data, hosts.OPENAI, model=model))
    expected, expected_trained = by_formula(path, MODELS[model])
    ours = (found.per_epoch, found.loss_per_epoch) if found else (0, 0)
    return Result(
        name=f"tokens: {path.stem}, {MODELS[model]}",
        value=abs(ours[0] - expected) + abs(ours[1] - expected_trained),
        unit="difference",
        reach="0",
        ok=ours == (expected, expected_trained),
        details={"total": ours[0], "formula": expected, "trained": ours[1], "trained_formula": expected_trained},
    )


def by_formula(path: Path, encoding_name: str) -> tuple[int, int]:
    """Return all tokens of a file of plain chats, and those of its answers, one text after the other."""
    import tiktoken

    encoding = tiktoken.get_encoding(encoding_name)
    total = trained = 0
    for line in path.read_text(encoding="utf-8").splitlines():
        total += 3
        for message in json.loads(line)["messages"]:
            total += 3 + ("name" in message) + sum(len(encoding.encode(str(value))) for value in message.values())
            if message["role"] == "assistant":
                trained += len(encoding.encode(message["content"]))
    return total, trained


def _timed_locally(case: str, path: Path) -> Result:
    """Time a plan at the local backend, once the machine is measured for the model."""
    few = path.with_name("few.jsonl")
    with path.open("rb") as whole:
        few.write_bytes(b"".join(islice(whole, 20)))
    _timed("", few, "--model", LOCAL_MODEL, backend="local")
    return _timed(f"plan at the local backend: {case}", path, "--model", LOCAL_MODEL, backend="local")


def _timed(name: str, path: Path, *arguments: str, backend: str = "openai") -> Result:
    """Time `ftclient plan` from start to end."""
    settings = ["OPENAI_BASE_URL=http://127.0.0.1:9/v1", f"FTCLIENT_HOME={path.parent / 'home'}"]
    command = ["env", *settings, sys.executable, "-m", "ftclient"]
    watched = run_and_watch([*command, "--backend", backend, "plan", str(path), *arguments, "--json"])
    found: dict[str, Any] = json.loads(watched.output)
    details = {
        "MB": path.stat().st_size // 1_000_000,
        "cpu_s": round(watched.cpu_s, 1),
        **{k: found[k] for k in ("n_examples",) if k in found},
    }
    if found.get("tokens_per_epoch"):
        details["tokens"] = found["tokens_per_epoch"]
    estimates = [w["message"] for w in found.get("warnings", ()) if w["code"] == "tokens_estimated"]
    if estimates:
        details["estimate"] = estimates[0]
    return Result(
        name=name, value=watched.wall_s, unit="s", reach=f"< {MAX_S:g} s", ok=watched.wall_s < MAX_S, details=details
    )
