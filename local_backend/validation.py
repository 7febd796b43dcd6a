"""Looking at a job's files before it runs: OpenAI's error codes and texts, and numbers for every `auto`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

from ftclient.data.check import check_file
from ftclient.data.counted import counted
from ftclient.data.findings import HINTS
from ftclient.data.limits import LOCAL_LIMITS
from ftclient.data.reader import open_binary, parse_line
from ftclient.data.report import Issue, Report
from ftclient.data.tokens import TokenCount
from local_backend.images import IMAGE_CODES, with_image_issues, with_issues
from local_backend.models import CATALOGUE
from local_backend.settings import Settings
from local_backend.store.blobs import blob_path
from local_backend.store.tables import JobRow
from local_backend.task import Engine, JobError, ModelRef, UserError

MethodName = Literal["supervised", "dpo", "reinforcement"]

TARGET_EPOCHS = 3
MIN_TARGET_EXAMPLES = 100
MAX_TARGET_EXAMPLES = 25_000
MIN_DEFAULT_EPOCHS = 1
MAX_DEFAULT_EPOCHS = 25
"""OpenAI's rule for `auto` epochs (cookbook, Chat_finetuning_data_prep; agrees with what hosted jobs show)."""

MAX_AUTO_BATCH = 32
DEFAULT_BETA = 0.1
"""The value of the DPO paper (arXiv 2305.18290, section 6)."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is known about a job once its files are found good."""

    hyperparameters: dict[str, Any]
    notes: list[str]


def validate(job: JobRow, *, blobs: Path, settings: Settings) -> Verdict:
    """Check the files of a job and resolve its hyperparameters.

    Raises:
        JobError: A file cannot be trained on; code and text are OpenAI's.
    """
    del settings  # every engine takes the same files
    report = _check(job, blobs, param="training_file")
    notes = _notes(report, "training file")
    if job.validation_sha256 is not None:
        notes += _notes(_check(job, blobs, param="validation_file"), "validation file")
    return Verdict(hyperparameters=resolve(job.hyperparameters, job.method, n_examples=report.n_examples), notes=notes)


def resolve(given: dict[str, Any], method: str, *, n_examples: int) -> dict[str, Any]:
    """Return the hyperparameters as numbers; what was given stays."""
    values = {
        "n_epochs": auto_epochs(n_examples),
        "batch_size": min(MAX_AUTO_BATCH, max(1, n_examples // 20)),
        "learning_rate_multiplier": 1.0,
    }
    if method == "dpo":
        values["beta"] = DEFAULT_BETA
    return {name: value if given.get(name, "auto") == "auto" else given[name] for name, value in values.items()}


def auto_epochs(n_examples: int) -> int:
    """How many epochs OpenAI trains when it is left to choose."""
    if n_examples * TARGET_EPOCHS < MIN_TARGET_EXAMPLES:
        return min(MAX_DEFAULT_EPOCHS, MIN_TARGET_EXAMPLES // max(1, n_examples))
    if n_examples * TARGET_EPOCHS > MAX_TARGET_EXAMPLES:
        return max(MIN_DEFAULT_EPOCHS, MAX_TARGET_EXAMPLES // n_examples)
    return TARGET_EPOCHS


def epochs_rule(given: Any, *, n_examples: int) -> str:
    """Say in words where the number of epochs comes from."""
    if given != "auto":
        return f"{counted(given, 'epoch')} as given"
    return f"auto: {counted(auto_epochs(n_examples), 'epoch')} for {counted(n_examples, 'example')} (OpenAI's rule)"


def n_steps(n_examples: int, *, n_epochs: int, batch_size: int) -> int:
    """Optimizer steps of a whole run; every epoch ends with what is left over."""
    return math.ceil(n_examples / batch_size) * n_epochs


def check(path: Path, model: ModelRef, *, method: MethodName, engine: Engine) -> Report:
    """Check a training file with the model's own tokenizer: an example beyond its context is an error.

    Raises:
        UserError: The model can't be used.
    """
    limits = replace(LOCAL_LIMITS, context_tokens=_context_tokens(model, engine))
    refused: dict[int, UserError] = {}
    count = _counter(model, method, engine, refused)
    report = check_file(path, method=method, limits=limits, encoding=None, count_tokens=count)
    report = with_image_issues(report, path)
    if refused:
        report = with_issues(report, list(_refusals(path, refused)))
    return with_issues(report, list(engine.inspect(model, path))) if report.ok and method == "supervised" else report


def count_examples(path: Path) -> int:
    """How many lines of a file are not blank."""
    with path.open("rb") as file:
        return sum(1 for line in file if line.strip())


def _counter(
    model: ModelRef, method: MethodName, engine: Engine, refused: dict[int, UserError]
) -> Callable[[Mapping[str, Any]], TokenCount] | None:
    """What counts tokens by the model's template; examples that it has no words for go into `refused`."""
    if method == "reinforcement":
        return None

    def count(example: Mapping[str, Any]) -> TokenCount:
        try:
            tokens = engine.render(model, example, method)
        except UserError as error:
            if error.param not in _OF_EXAMPLES:
                raise
            if error.code not in IMAGE_CODES:  # found by the images' own check, with line and place
                refused[_mark(example)] = error
            return TokenCount(0, 0, is_estimate=True)
        return TokenCount(len(tokens), sum(token["weight"] != 0 for token in tokens), is_estimate=False)

    return count


_OF_EXAMPLES = (None, "example", "input", "messages", "tools")
"""What an engine may find wrong with an example; all else is about the model."""


def _mark(example: Any) -> int:
    """The same for the same example, which is seen a second time for its line."""
    return hash(repr(example))


def _refusals(path: Path, refused: Mapping[int, UserError]) -> Iterator[Issue]:
    """The examples that a model's template refuses, by line."""
    with open_binary(path) as stream:
        for number, raw in enumerate(stream, 1):
            error = refused.get(_mark(parse_line(raw.rstrip(b"\n")).value))
            if error is not None:
                hint = HINTS.get(error.code or "")
                code = "example_unfit" if hint is None else str(error.code)
                yield Issue(number, "/messages", code, "error", error.message, hint)


def _context_tokens(model: ModelRef, engine: Engine) -> int:
    known = CATALOGUE.get(model.base)
    return engine.context_tokens(model) if known is None else known.context_tokens


def _check(job: JobRow, blobs: Path, *, param: str) -> Report:
    is_training = param == "training_file"
    sha256 = job.training_sha256 if is_training else job.validation_sha256
    path = blob_path(blobs, str(sha256))
    if not path.is_file():
        raise JobError("invalid_training_file", "The file's content is gone; upload it again.", param)
    report = check_file(
        path,
        method=cast("MethodName", job.method),
        limits=LOCAL_LIMITS,
        is_training=is_training,
        encoding=None,
        max_workers=0,
    )
    report = with_image_issues(report, path)
    if not report.ok:
        raise job_error(report, job=job, param=param)
    return report


def job_error(report: Report, *, job: JobRow, param: str) -> JobError:
    """Return the error with which a job fails over a bad file: OpenAI names the first problem only."""
    is_training = param == "training_file"
    errors = (issue for issue in report.issues if issue.severity == "error")
    first = min(itertools.islice(errors, 2), key=lambda issue: issue.code == "too_few_examples")
    name = "training" if is_training else "validation"
    if first.code == "too_few_examples":
        text = f"Training file has {report.n_examples} example(s), but must have at least 10 examples"
        return JobError("invalid_n_examples", text, param)
    file_id = job.training_file if is_training else job.validation_file
    if _is_other_method(first, job.method):
        return JobError("invalid_training_file", _method_text(file_id, job.method, name), param)
    detail = first.host_message or _detail(first)
    text = f"The job failed due to a file format error in the {name} file. {detail}"
    return JobError("invalid_file_format", text, param)


def _detail(issue: Issue) -> str:
    where = "" if issue.line is None else f" Example {issue.line}:"
    hint = "" if issue.hint is None else f" {issue.hint}"
    return f"Invalid file format.{where} {issue.message}{hint}"


def _is_other_method(issue: Issue, method: str) -> bool:
    """Whether the first line is a good example of another method."""
    wanted = {"dpo": "input", "supervised": "messages"}.get(method)
    return issue.code == "missing_key" and issue.path.lstrip("/") == wanted and issue.line == 1


def _method_text(file_id: str | None, method: str, name: str) -> str:
    found, right = ("chat", "supervised") if method == "dpo" else ("preference", "dpo")
    return (
        f"The job failed due to an invalid {name} file. Invalid file format. Input file {file_id} is in the "
        f"fine-tune-{found} format, but the specified fine-tuning job is not using '{right}' as the training method "
        f"(provided method={method}). "
    )


def _notes(report: Report, name: str) -> list[str]:
    if not report.n_warnings:
        return []
    return [f"The {name} has {counted(report.n_warnings, 'warning')}; POST /v1/local/check lists them."]


class NotJsonlError(ValueError):
    """A file whose first line is no JSON object; the text is OpenAI's."""


def jsonl_problem(path: Path) -> str | None:
    """Return what is wrong with the first line that is no JSON object; None: each is one.

    Raises:
        NotJsonlError: It is the very first line already, or there is none.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            parsed = parse_line(line.removesuffix(b"\n"))
            if isinstance(parsed.value, dict) or not line.strip():
                continue
            if number == 1:
                raise NotJsonlError(_not_jsonl_text(line))
            detail = next((p.host_detail or p.message for p in parsed.problems), "line is not a dictionary")
            return (
                f"Invalid file format. Example {number} cannot be parsed. "
                f"Error: line contains invalid json: {detail} (line {number})"
            )
        if file.tell() == 0:
            raise NotJsonlError("The file is empty: it needs at least 10 lines, each a JSON object.")
    return None


def _not_jsonl_text(line: bytes) -> str:
    start = line[:5].decode(errors="replace").strip()
    return (
        "Expected file to have JSONL format, where every line is a JSON dictionary. "
        f'Line 1 is not a dictionary (HINT: line starts with: "{start}...").'
    )
