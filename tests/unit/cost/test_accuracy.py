"""Estimates of past jobs beside what the jobs took."""

from __future__ import annotations

import io
import json
import time
from typing import Any

from rich.console import Console

from ftclient import Client, Dataset, Supervised
from ftclient.cost.accuracy import outcome_of
from ftclient.jobs.journal import Launch
from tests.unit.cost.conftest import HostServer

DATA = Dataset(
    {"messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": f"It is {n}."}]}
    for n in range(20)
)
JOB = {
    "id": "ftjob-1",
    "object": "fine_tuning.job",
    "model": "gpt-4.1-mini-2025-04-14",
    "status": "succeeded",
    "created_at": 1_000,
    "finished_at": 1_600,
    "trained_tokens": 900_000,
}


def keep(client: Client, plan: dict[str, Any], job_id: str) -> None:
    """Put a launch with its plan into the client's journal, as `train` does."""
    journal, run_id = client._journal, f"run-{job_id}"
    journal.intend(
        Launch(
            run_id=run_id,
            base_url=str(client.openai.base_url),
            state="intended",
            job_id=None,
            fingerprint="f",
            body={},
            created_at=time.time(),
            note=None,
        )
    )
    journal.settle(run_id, "created", job_id=job_id)
    journal.keep_plan(run_id, plan)


def test_a_local_job_bills_the_tokens_that_were_planned(ft_client: Client) -> None:
    plan = ft_client.plan(DATA, model="smollm2-135m", method=Supervised(n_epochs=3))
    ended = ft_client.train(plan).wait(timeout_s=60)
    (found,) = ft_client.plan_accuracy().outcomes
    assert found.status == "succeeded"
    assert found.tokens.estimated == plan.billed_tokens
    assert found.tokens.actual == ended.trained_tokens
    assert found.tokens.ratio == 1.0
    assert found.time_s.actual is not None
    assert found.cost_usd.estimated is None  # nobody charges
    assert json.dumps(ft_client.plan_accuracy().to_json())


def test_hosted_jobs_are_counted_at_the_plans_price(hosted: Client, host_server: HostServer) -> None:
    plan = hosted.plan(DATA, model="gpt-4.1-mini").to_json()
    keep(hosted, {**plan, "billed_tokens": 1_000_000, "cost_usd": "5.00"}, "ftjob-1")
    keep(hosted, plan, "ftjob-gone")
    host_server.answers = {"/fine_tuning/jobs/ftjob-1": (200, JOB)}
    gone, found = hosted.plan_accuracy().outcomes
    assert (gone.job_id, gone.status, gone.tokens.actual) == ("ftjob-gone", "gone", None)
    shown = found.to_json()
    assert shown["tokens"] == {"estimated": 1_000_000, "actual": 900_000, "ratio": 0.9}
    assert shown["cost_usd"]["actual"] == "4.50"
    assert shown["time_s"] == {"estimated": None, "actual": 600, "ratio": None}


def test_the_table_has_both_figures_and_their_ratio(hosted: Client, host_server: HostServer) -> None:
    plan = hosted.plan(DATA, model="gpt-4.1-mini").to_json()
    keep(hosted, {**plan, "billed_tokens": 1_000_000, "cost_usd": "5.00"}, "ftjob-1")
    host_server.answers = {"/fine_tuning/jobs/ftjob-1": (200, JOB)}
    console = Console(file=io.StringIO(), width=140)
    console.print(hosted.plan_accuracy())
    text = console.file.getvalue()
    assert "1,000,000 -> 900,000 (0.90x)" in text
    assert "$5.00 -> $4.50 (0.90x)" in text
    assert "? -> 10 min" in text
    assert "Tokens: 0.90 of the estimate (median), 0.90 to 0.90" in text


def test_a_job_that_did_not_end_well_says_nothing_about_the_plan() -> None:
    from openai.types.fine_tuning import FineTuningJob

    job = FineTuningJob.construct(**{**JOB, "status": "failed"})
    found = outcome_of("ftjob-1", {"billed_tokens": 10, "time_s": 1.0}, job)
    assert (found.tokens.actual, found.time_s.actual, found.tokens.ratio) == (None, None, None)


def test_plans_of_another_form_are_shown_as_far_as_they_go() -> None:
    found = outcome_of("ftjob-1", {}, None)
    assert found.to_json()["tokens"] == {"estimated": None, "actual": None, "ratio": None}


def test_the_time_of_training_is_compared_with_that_part_of_the_estimate() -> None:
    from openai.types.fine_tuning import FineTuningJob

    plan = {"time_s": 100.0, "machine": {"time": {"start": 12.0, "render": 5.0, "frozen": 8.0, "steps": 75.0}}}
    job = FineTuningJob.construct(**JOB)
    trained = outcome_of("ftjob-1", plan, job, trained_s=150.0).time_s
    assert (trained.estimated, trained.actual, trained.ratio) == (75.0, 150.0, 2.0)
    whole = outcome_of("ftjob-1", plan, job).time_s
    assert (whole.estimated, whole.actual) == (100.0, 600)
