"""Several jobs in one view."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from ftclient import Client, Dataset, LocalOptions, Simulate, Supervised
from ftclient.jobs.follow import Poll
from ftclient.view import watch_many
from ftclient.view.watch_many import table, watch_all
from tests.unit.view.scenes import BORN, job, scene, step


def drawn(width: int) -> str:
    scenes = [
        scene(Poll(job(), [step(9, 36, 1.25, full_valid_loss=1.5)])),
        scene(Poll(job("compressing"), [])),
        scene(Poll(job("paused"), []), Poll(None, (), "gone")),
        scene(Poll(job("succeeded"), [step(36, 36, 0.5)])),
    ]
    console = Console(file=io.StringIO(), width=width, legacy_windows=False)
    console.print(table(scenes, now=BORN + 19, width=width))
    return console.file.getvalue()


def test_the_table_says_where_each_job_is() -> None:
    lines = [line.split() for line in drawn(100).splitlines()]
    assert lines == [
        ["job", "status", "step", "loss", "valid", "loss", "left"],
        ["ftjob-abc123", "running", "9/36", "1.250", "1.500", "0:30"],
        ["ftjob-abc123", "compressing"],  # a status that nobody knew
        ["ftjob-abc123", "no", "answer"],
        ["ftjob-abc123", "done", "36/36", "0.500"],
    ]


def test_a_narrow_table_fits() -> None:
    text = drawn(40)
    assert max(map(len, text.splitlines())) <= 40
    assert "9/36" in text
    assert "1.250" not in text


@pytest.fixture
def jobs(ft_client: Client, monkeypatch):
    monkeypatch.setattr("ftclient.jobs.follow.Pace.after", lambda _self, *, news: 0.05 - 0.03 * news)
    data = Dataset(
        {"messages": [{"role": "user", "content": str(n)}, {"role": "assistant", "content": "a"}]} for n in range(12)
    )
    method = Supervised(n_epochs=2, batch_size=4)
    failing = LocalOptions(simulate=Simulate(speed="immediate", fail_at_step=2))
    plans = [ft_client.plan(data, model="smollm2-135m", method=method, local=local) for local in (None, failing)]
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


def test_ctrl_c_says_how_to_come_back_to_each(jobs) -> None:
    console = Console(file=io.StringIO(), width=100)

    def press() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watch_all(jobs, console=console, check=press)
    assert f"ftclient watch {jobs[0].id} {jobs[1].id}" in console.file.getvalue()
    for each in jobs:
        assert list(each.polls())[-1].job.status in ("succeeded", "failed")  # it went on
