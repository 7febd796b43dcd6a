"""Describing a dataset: what it is like, and what to mend first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftclient.data.check import check_examples, check_file
from ftclient.data.convert.rows import jsonl_rows
from ftclient.data.dataset import Dataset
from ftclient.data.describe import topics
from ftclient.data.describe.labels import label_sets
from ftclient.data.describe.language import Languages
from ftclient.data.describe.sightings import Sighting, look_at
from ftclient.data.describe.trained import Render, tiktoken_render, tokens_json
from ftclient.data.describe.verdict import Advice, advise
from ftclient.data.limits import OPENAI_LIMITS, Limits, Method
from ftclient.data.new_file import new_file
from ftclient.data.report import Report
from ftclient.data.tokens import count_example, encoding_for
from ftclient.data.vocab import VOCABULARIES

if TYPE_CHECKING:
    from rich.console import Group

Progress = Callable[[int], None]
"""Called now and then with the number of examples looked at."""

_PROGRESS_EVERY = 500
_BINS = 20
_SHOWN_EXAMPLES = 3


@dataclass(frozen=True)
class Description:
    """What a dataset is like. `found` has a part for each topic; `verdict` says what to mend first."""

    source: str
    found: Mapping[str, Any]
    verdict: Sequence[Advice]

    def to_json(self) -> dict[str, Any]:
        """Everything as `ftclient report --json` prints it."""
        advice = [
            {"rank": item.rank, "code": item.code, "message": item.text("en"), "lines": list(item.lines)}
            for item in self.verdict
        ]
        return {"source": self.source, **self.found, "verdict": advice}

    def write_html(self, path: str | Path, *, lang: str = "en", overwrite: bool = True) -> Path:
        """Write one self-contained HTML page with plots; it loads nothing and runs no script.

        Args:
            path: The file.
            lang: `en` or `ja`.
            overwrite: Replace a file of this name.

        Raises:
            DataError: The folder does not exist, or the file does and may not be replaced.
        """
        from ftclient.data.describe.page import page

        with new_file(path, overwrite=overwrite) as target:
            target.write(page(self, lang=lang).encode("utf-8", "replace"))
        return Path(path)

    def __rich__(self) -> Group:
        """The verdict and the main numbers, for `rich.print(description)`."""
        from ftclient.data.describe.terminal import render

        return render(self, lang="en")


def describe(
    source: str | Path | Dataset | Iterable[Mapping[str, Any]],
    *,
    model: str | None = None,
    method: Method = "supervised",
    limits: Limits = OPENAI_LIMITS,
    report: Report | None = None,
    render: Render | None = None,
    progress: Progress | None = None,
) -> Description:
    """Describe a dataset.

    Keeps about 2 kB of memory for each example. Lines that are no JSON objects are counted as errors and left out of
    all else.

    Args:
        source: A JSONL file, a dataset, or examples.
        model: The model that is to be tuned; it decides how tokens are counted, and the context.
        method: What the dataset is for.
        limits: What the host accepts.
        report: A check that was done already, such as the backend's own with the model's tokenizer.
        render: Shows which tokens carry loss; by default OpenAI's models are shown with tiktoken.
        progress: Called every 500 examples.

    Raises:
        OSError: The file cannot be read.
    """
    limits = limits.for_model(model)
    encoding = encoding_for(model)
    name, read, checked = _opened(source, method, limits, encoding, report)
    seen, sizes, shown = _survey(read(), encoding, method, progress)
    render = render or (tiktoken_render(encoding) if encoding else None)
    labels = label_sets(seen)
    found: dict[str, Any] = {
        "n_examples": checked.n_examples,
        "model": model,
        "check": _check_numbers(checked),
        "tokens": _tokens(checked, sizes, limits, model),
        "turns": topics.turns(seen),
        "labels": labels,
        "ambiguity": topics.ambiguity(seen, has_labels=bool(labels)),
        "duplicates": topics.duplicates(seen),
        "languages": topics.languages(seen, is_complete=Languages().is_complete),
        "personal_data": topics.personal_data(seen),
        "refusals": topics.refusals(seen),
        "answer_format": topics.answer_format(seen),
        "outliers": topics.outliers(seen, sizes),
        "trained": _trained(shown, render),
    }
    return Description(name, found, advise(found))


_Read = Callable[[], "Iterator[tuple[int, Mapping[str, Any]]]"]


def _opened(
    source: str | Path | Dataset | Iterable[Mapping[str, Any]],
    method: Method,
    limits: Limits,
    encoding: str | None,
    report: Report | None,
) -> tuple[str, _Read, Report]:
    path = source.path if isinstance(source, Dataset) else source
    if isinstance(path, str | Path):
        file = Path(path)
        checked = report or check_file(file, method=method, limits=limits, encoding=encoding)
        return file.name, lambda: ((row.line, row.record) for row in jsonl_rows(file) if row.flaw is None), checked
    examples = list(source) if not isinstance(source, str | Path) else []
    checked = report or check_examples(examples, method=method, limits=limits, encoding=encoding)
    return "dataset", lambda: iter(enumerate(examples, 1)), checked


def _survey(
    examples: Iterable[tuple[int, Mapping[str, Any]]], encoding: str | None, method: Method, progress: Progress | None
) -> tuple[list[Sighting], dict[int, int], list[tuple[int, Mapping[str, Any]]]]:
    """Look at every example once: what was seen, tokens by line, and a few examples to show."""
    languages = Languages()
    seen: list[Sighting] = []
    sizes: dict[int, int] = {}
    shown: list[tuple[int, Mapping[str, Any]]] = []
    for line, example in examples:
        sighting = look_at(example, line=line, languages=languages)
        seen.append(sighting)
        if len(shown) < _SHOWN_EXAMPLES and not sighting.personal_data:
            shown.append((line, example))
        if encoding is not None:
            with suppress(LookupError):  # no vocabulary: lengths are then given in characters
                sizes[line] = count_example(example, encoding, method=method).total
        if progress is not None and len(seen) % _PROGRESS_EVERY == 0:
            progress(len(seen))
    return seen, sizes, shown


def _check_numbers(report: Report) -> dict[str, Any]:
    by_code: dict[str, int] = {}
    for issue in report.issues:
        by_code[issue.code] = by_code.get(issue.code, 0) + 1
    ordered = dict(sorted(by_code.items(), key=lambda item: -item[1]))
    numbers = {"n_errors": report.n_errors, "n_warnings": report.n_warnings}
    return {"ok": report.ok, **numbers, "by_code": ordered, "formats": report.stats.get("formats", {})}


def _tokens(report: Report, sizes: Mapping[int, int], limits: Limits, model: str | None) -> dict[str, Any] | None:
    counted = report.stats.get("tokens")
    if not counted:
        return None
    context = limits.context_tokens
    n_too_long = sum(size > context for size in sizes.values()) if context is not None else 0
    # A backend that counts with the model's own tokenizer says how many tokens there are, and not by whom.
    is_ours = counted["encoding"] in VOCABULARIES
    own: dict[str, Any] = {} if is_ours else {"encoding": f"the tokenizer of {model}", "trained": None, "by_role": {}}
    return {
        **counted,
        **own,
        "context_tokens": context,
        "n_too_long": n_too_long,
        "histogram": histogram(sizes.values()),
    }


def histogram(values: Iterable[int]) -> list[dict[str, int]]:
    """Counts in up to 20 even bins; what is beyond the 99th percentile falls into the last."""
    ordered = sorted(values)
    if not ordered:
        return []
    low, high = ordered[0], ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    width = max(1, -(-(high - low + 1) // _BINS))
    n_bins = max(1, -(-(high - low + 1) // width))
    counts = [0] * n_bins
    for value in ordered:
        counts[min(n_bins - 1, (value - low) // width)] += 1
    ends = [low + width * (at + 1) - 1 for at in range(n_bins - 1)]
    starts = [low + width * at for at in range(n_bins)]
    return [
        {"from": start, "to": end, "n": n} for start, end, n in zip(starts, [*ends, ordered[-1]], counts, strict=True)
    ]


def _trained(shown: Iterable[tuple[int, Mapping[str, Any]]], render: Render | None) -> list[dict[str, Any]]:
    if render is None:
        return []
    found = []
    for line, example in shown:
        tokens = render(example)
        n_trained = sum(token.weight > 0 for token in tokens)
        n_tokens = sum(not token.is_mark for token in tokens)
        found.append({"line": line, "n_tokens": n_tokens, "n_trained": n_trained, "tokens": tokens_json(tokens)})
    return found
