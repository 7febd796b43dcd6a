"""Check and token count of 1,000,000 chat lines against the logic of OpenAI's cookbook notebook on the same file.

The notebook ("Data preparation and analysis for chat model fine-tuning") loads the file as a list, looks for six kinds
of format errors, and then counts the tokens of every example and of its assistant messages. Its rules are written
down here anew, with the encoding of current models. Each side runs in a process of its own and is timed from start
to end, one after the other.
"""

from __future__ import annotations

import itertools
import json
import random
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks.memory import run_and_watch
from tests.benchmarks.runner import Options, Result

N_LINES = 1_000_000
MAX_PSS_BYTES = 400_000_000
FILES = {
    "repeated short system prompt": ("banking77_train.jsonl", 5.0),
    "repeated long system prompt": ("banking77_long_prompt.jsonl", 5.0),
    "unique text": ("gsm8k.jsonl", 3.0),
    "unique text, Japanese": ("jcommonsenseqa_ja.jsonl", 3.0),
}
"""Case -> real file that it starts from, and the ratio to reach."""

_VOCABULARY = (
    "invoice refund account parcel delivery customer balance password broken arrived late screen battery order cancel "
    "please today again without support number contract monthly address wrong missing double charged email phone"
)
_WORDS = _VOCABULARY.split()


def run(options: Options) -> Iterator[Result]:
    """Measure all cases, or those that have one of the given words in their name."""
    n_lines = int(N_LINES * options.scale)
    with tempfile.TemporaryDirectory() as folder:
        for case, (name, reach) in FILES.items():
            if options.rest and not any(word in case for word in options.rest):
                continue
            path = Path(folder) / "lines.jsonl"
            seeds = _real(options.data / name) if options.data else generated(case)
            write(path, seeds, n_lines, is_unique="unique" in case)
            yield from compare(case, path, reach)


def compare(case: str, path: Path, reach: float) -> Iterator[Result]:
    """Time both sides on one file."""
    command = [sys.executable, "-m", "tests.benchmarks.data_check"]
    ours = run_and_watch([*command, "ours", str(path)])
    theirs = run_and_watch([*command, "notebook", str(path)])
    if json.loads(ours.output) != json.loads(theirs.output):
        raise RuntimeError(f"the two sides count differently: {ours.output} and {theirs.output}")
    ratio = theirs.wall_s / ours.wall_s
    details = {
        "ours_s": round(ours.wall_s, 1),
        "ours_cpu_s": round(ours.cpu_s, 1),
        "notebook_s": round(theirs.wall_s, 1),
        "notebook_cpu_s": round(theirs.cpu_s, 1),
        "MB": path.stat().st_size // 1_000_000,
    }
    yield Result(name=f"check: {case}", value=ratio, unit="x", reach=f">= {reach}", ok=ratio >= reach, details=details)
    yield Result(
        name=f"check: {case}: peak PSS",
        value=ours.peak_bytes / 1e6,
        unit="MB",
        reach="< 400",
        ok=ours.peak_bytes < MAX_PSS_BYTES,
        details={"notebook_MB": theirs.peak_bytes // 1_000_000},
    )


def write(path: Path, seeds: list[list[dict[str, str]]], n_lines: int, *, is_unique: bool) -> None:
    """Write `n_lines` examples made from some: every line has its own question, unique text its own answer too."""
    picked = random.Random(7)
    sentences = [m["content"].split(". ") for messages in seeds for m in messages if m["role"] != "system"]
    with path.open("w", encoding="utf-8") as file:
        for i, messages in zip(range(n_lines), itertools.cycle(seeds), strict=False):
            changed = [dict(message) for message in messages]
            for message in changed:
                if message["role"] == "user" or (is_unique and message["role"] == "assistant"):
                    tail = picked.choice(picked.choice(sentences)) if is_unique else ""
                    message["content"] = f"{message['content']} {tail} ({i})" if tail else f"{message['content']} ({i})"
            file.write(json.dumps({"messages": changed}, ensure_ascii=False) + "\n")


def _real(path: Path) -> list[list[dict[str, str]]]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line)["messages"] for line in file]


def generated(case: str) -> list[list[dict[str, str]]]:
    picked = random.Random(case)
    system = {"short": "Name the queue of this ticket.", "long": " ".join(picked.choices(_WORDS, k=500))}
    prompt = next((text for key, text in system.items() if key in case), None)
    n_words = 15 if prompt else 80
    return [
        [
            *([{"role": "system", "content": prompt}] if prompt else []),
            {"role": "user", "content": _sentence(picked, n_words)},
            {"role": "assistant", "content": picked.choice(_WORDS) if prompt else _sentence(picked, n_words)},
        ]
        for _ in range(5_000)
    ]


def _sentence(picked: random.Random, n_words: int) -> str:
    words = picked.choices(_WORDS, k=n_words)
    return ". ".join(" ".join(words[i : i + 10]).capitalize() for i in range(0, n_words, 10)) + "."


def notebook(path: Path) -> dict[str, int]:
    """The notebook's logic: load, look for format errors, count tokens."""
    import tiktoken

    encoding = tiktoken.get_encoding("o200k_base")
    with path.open(encoding="utf-8") as file:
        dataset = [json.loads(line) for line in file]
    errors = _format_errors(dataset)
    tokens = trained = 0
    for example in dataset:
        messages = example["messages"]
        tokens += _tokens_of_messages(encoding, messages)
        trained += _tokens_of_assistant(encoding, messages)
    return {"n": len(dataset), "errors": sum(errors.values()), "tokens": tokens, "trained": trained}


def _format_errors(dataset: list[Any]) -> dict[str, int]:
    errors: dict[str, int] = defaultdict(int)
    for example in dataset:
        if not isinstance(example, dict):
            errors["data_type"] += 1
            continue
        messages = example.get("messages")
        if not messages:
            errors["missing_messages_list"] += 1
            continue
        for kind in itertools.chain.from_iterable(map(_message_errors, messages)):
            errors[kind] += 1
        if not any(message.get("role") == "assistant" for message in messages):
            errors["example_missing_assistant_message"] += 1
    return errors


def _message_errors(message: dict[str, Any]) -> Iterable[str]:
    if "role" not in message or "content" not in message:
        yield "message_missing_key"
    if any(key not in {"role", "content", "name", "function_call", "weight"} for key in message):
        yield "message_unrecognized_key"
    if message.get("role") not in {"system", "user", "assistant", "function"}:
        yield "unrecognized_role"
    content = message.get("content")
    if (not content and not message.get("function_call")) or not isinstance(content, str):
        yield "missing_content"


def _tokens_of_messages(encoding: Any, messages: list[dict[str, str]]) -> int:
    n_tokens = 3
    for message in messages:
        n_tokens += 3
        for key, value in message.items():
            n_tokens += len(encoding.encode(value))
            if key == "name":
                n_tokens += 1
    return n_tokens


def _tokens_of_assistant(encoding: Any, messages: list[dict[str, str]]) -> int:
    return sum(len(encoding.encode(message["content"])) for message in messages if message["role"] == "assistant")


def ours(path: Path) -> dict[str, int]:
    """The check of this project."""
    from ftclient.data import check_file

    report = check_file(path)
    tokens = report.stats["tokens"]
    return {
        "n": report.n_examples,
        "errors": report.n_errors,
        "tokens": tokens["total"],
        "trained": tokens["trained"],
    }


if __name__ == "__main__":
    side = {"ours": ours, "notebook": notebook}[sys.argv[1]]
    print(json.dumps(side(Path(sys.argv[2]))))
