"""From a request to a plan: check, and ask whoever knows what the job will take."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ftclient.cost.access import ask_access
from ftclient.cost.accuracy import Accuracy, Outcome, outcome_of
from ftclient.cost.book import PriceBook, price_book
from ftclient.cost.plan import Plan
from ftclient.cost.planned import hosted_plan, local_plan
from ftclient.cost.tokens import check_and_count
from ftclient.data import Dataset, Report
from ftclient.data.counted import counted
from ftclient.errors import DataError, JobNotFoundError
from ftclient.hosts import Host
from ftclient.jobs.job import Job
from ftclient.jobs.local import Measuring, check_with_tokenizer, forecast
from ftclient.jobs.request import JobRequest

if TYPE_CHECKING:
    from openai import OpenAI


def make_plan(
    openai: OpenAI,
    host: Host,
    request: JobRequest,
    *,
    upload: Callable[[Dataset], str],
    book: PriceBook | None = None,
    measuring: Measuring | None = None,
) -> Plan:
    """Return the plan of a job at `host`.

    Args:
        openai: The official client.
        host: Where the job would run.
        request: The job.
        upload: Returns the id of a file with this content; the local backend plans on uploaded files.
        book: What hosts charge; None is what holds here.
        measuring: Told how the local machine is measured, where it is for the first time.

    Raises:
        DataError: A dataset has errors; `error.report` lists them.
        UnsupportedError: The host cannot do this.
        BackendError: The local backend refused. A hosted plan is made without the host, and says so.
    """
    request.check_host(host)
    book = book or price_book()
    report = _check(host, request)
    if host.is_local:
        return _ask_local(openai, host, request, upload, book, measuring)
    access = ask_access(openai, host, model=request.model, book=book)
    return hosted_plan(request, host, report, access=access, book=book)


def judge_plans(kept: Iterable[tuple[str, Mapping[str, Any]]], *, job: Callable[[str], Job]) -> Accuracy:
    """Return past jobs beside their plans.

    Args:
        kept: Ids of jobs, each with its plan.
        job: Returns the job of an id.
    """
    return Accuracy(outcomes=[_outcome(job(job_id), plan) for job_id, plan in kept])


def _outcome(job: Job, plan: Mapping[str, Any]) -> Outcome:
    try:
        latest = job.refresh()
    except JobNotFoundError:
        return outcome_of(job.id, plan, None)
    trained_s = job.details().get("progress", {}).get("elapsed_s")
    return outcome_of(job.id, plan, latest, trained_s=trained_s)


def _check(host: Host, request: JobRequest) -> Report:
    """Return the check of the training file, once both files are without errors."""
    if request.valid is not None:
        _refuse(_report(host, request, request.valid, is_training=False), request.valid)
    report = _report(host, request, request.train, is_training=True)
    _refuse(report, request.train)
    return report


def _report(host: Host, request: JobRequest, data: Dataset, *, is_training: bool) -> Report:
    model, method = request.model, request.method.type
    if not host.is_local:
        return check_and_count(data, host, model=model, method=method, is_training=is_training)
    return data.check(model=model, method=method, limits=host.limits, is_training=is_training)  # it counts by itself


def _ask_local(
    openai: OpenAI,
    host: Host,
    request: JobRequest,
    upload: Callable[[Dataset], str],
    book: PriceBook,
    measuring: Measuring | None,
) -> Plan:
    file_id = upload(request.train)
    valid_id = upload(request.valid) if request.valid else None
    body = request.body(training_file=file_id, validation_file=valid_id)
    plan = local_plan(request, host, forecast(openai, host, body, measuring=measuring), book=book)
    machine = plan.machine
    if machine and (machine.longest_example_tokens or 0) > (machine.context_tokens or float("inf")):
        method = request.method.type
        report = check_with_tokenizer(openai, host, file_id=file_id, model=request.model, method=method)
        _refuse(report, request.train)
    return plan


def _refuse(report: Report, data: Dataset) -> None:
    if report.ok:
        return
    first = next(issue for issue in report.issues if issue.severity == "error")
    where = f"line {first.line}: " if first.line else ""
    n_errors = counted(report.n_errors, "error")
    text = f"{data.name} has {n_errors}; the first: {where}{first.message} `ftclient check` lists them all."
    raise DataError(text, report)
