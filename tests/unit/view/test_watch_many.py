"""Several jobs in one view."""

from __future__ import annotations

import io
import re
import threading

import pytest
from rich.console import Console

from ftclient import Client, Dataset, LocalOptions, Simulate, Supervised
from ftclient.view import watch_many
from ftclient.view.watch_many import watch_all


@pytest.fixture
def jobs(ft_client: Client, monkeypatch):
    monkeypatch.setattr("ftclient.jobs.follow.Pace.after", lambda _self, *, news: 0.05 - 0.03 * news)
    data = Dataset(
        {"messages": [{"role": "user", "content": str(n)}, {"role": "assistant", "content": "a"}]} for n in range(12)
    )
    method = Supervised(n_epochs=20, batch_size=12)  # of so many noisy epochs an earlier one does best
    failing = LocalOptions(simulate=Simulate(speed="immediate", fail_at_step=2))
    plans = [
        ft_client.plan(data, valid=data, model="smollm2-135m", method=method, local=local, seed=4)
        for local in (None, failing)
    ]
    return [ft_client.train(plan) for plan in plans]


@pytest.mark.parametrize("is_terminal", [True, False])
def test_jobs_are_watched_to_their_ends_well_or_not(jobs, monkeypatch, is_terminal: bool) -> None:  # noqa: FBT001
    monkeypatch.setattr(watch_many, "can_draw", lambda _: is_terminal)
    console = Console(file=io.StringIO(), width=100, force_terminal=is_terminal, legacy_windows=False)
    ended = watch_all(jobs, console=console)
    assert [each.status for each in ended] == ["succeeded", "failed"]
    text = console.file.getvalue()
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    assert f"{jobs[0].id}  done" in plain
    assert f"{jobs[1].id}  failed" in plain
    assert is_terminal == ("\x1b[" in text)
    told = " ".join(plain.split())
    best = jobs[0].result().best_model
    assert best != ended[0].fine_tuned_model
    assert f"{jobs[0].id}: The checkpoint of step" in told
    assert f"did better in validation: {best}" in told
    assert f"{jobs[1].id}: Failed: The job failed on purpose" in told


def test_ctrl_c_says_how_to_come_back_to_each(jobs) -> None:
    console = Console(file=io.StringIO(), width=100)

    def press() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watch_all(jobs, console=console, check=press)
    assert f"ftclient watch {jobs[0].id} {jobs[1].id}" in console.file.getvalue()
    for each in jobs:
        assert list(each.polls())[-1].job.status in ("succeeded", "failed")  # it went on


class FaultOfOursError(Exception):
    """No error that anybody has thought of."""


@pytest.mark.parametrize("where", ["polls", "earlier_best"])
def test_a_job_that_cannot_be_followed_ends_the_view_once_the_others_have_ended(jobs, monkeypatch, where: str) -> None:
    def fail(*_: object, **__: object) -> None:
        raise FaultOfOursError("it broke")

    if where == "polls":
        monkeypatch.setattr(jobs[0], "polls", fail)
    else:
        monkeypatch.setattr(watch_many, "earlier_best", lambda job: fail() if job is jobs[0] else None)
    console, raised = Console(file=io.StringIO(), width=100), list[BaseException]()

    def view() -> None:
        try:
            watch_all(jobs, console=console)
        except FaultOfOursError as error:
            raised.append(error)

    thread = threading.Thread(target=view, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    assert [str(error) for error in raised] == ["it broke"]
    assert f"{jobs[1].id}  failed" in console.file.getvalue()
