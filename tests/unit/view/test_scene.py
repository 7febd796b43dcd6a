"""What the view knows: metrics of all kinds of hosts, times, and statuses that nobody has heard of."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftclient import hosts
from ftclient.jobs.follow import Poll
from ftclient.view.plot import plot
from ftclient.view.scene import Scene
from ftclient.view.words import clock, headline
from tests.unit.view.scenes import BORN, done, event, half_way, job, scene, step


def test_the_whole_validation_loss_is_shown_rather_than_a_batchs() -> None:
    made = scene(Poll(job(), [step(1, 2, 2.0, valid_loss=3.0, full_valid_loss=2.5)]))
    assert made.course.valid == {1: 2.5}


def test_time_left_is_what_the_host_says_else_by_the_pace_so_far() -> None:
    assert half_way().remaining_s(BORN + 60.0) == 61.0
    made = scene(Poll(job(), [step(n, 120, 1.0) for n in range(1, 61)]))
    assert made.remaining_s(BORN + 61.0) == pytest.approx(60.0)
    assert scene(Poll(job(), [])).remaining_s(BORN) is None


@pytest.mark.parametrize(("n_epochs", "words"), [(1, "1 epoch"), (4, "4 epochs")])
def test_the_headline_counts_epochs(n_epochs: int, words: str) -> None:
    made = scene(Poll(job(hyperparameters={"n_epochs": n_epochs, "batch_size": 8}), []))
    assert headline(made) == f"smollm2-135m · supervised · {words} · batch 8"


def test_an_ended_job_has_stopped_its_clock() -> None:
    assert done().elapsed_s(BORN + 9999.0) == 130.0


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        {"step": None},
        {"step": True},
        {"step": "7"},
        {"step": 1, "train_loss": math.nan, "total_steps": -1},
        [],
    ],
)
def test_metrics_in_no_known_form_are_no_error(data: object) -> None:
    made = scene(Poll(job(), [event(1, "x", type="moderation_checks", data=data)]))
    assert made.course.train == {}


@given(st.dictionaries(st.integers(1, 500), st.floats(-10, 10), max_size=40), st.integers(5, 90), st.integers(1, 12))
def test_any_losses_can_be_plotted_and_fit(train: dict[int, float], width: int, height: int) -> None:
    for ascii_only in (False, True):
        lines = plot(train, {}, width=max(width, 16), height=height, ascii_only=ascii_only)
        assert len(lines) == (height if train else 0)
        assert all(line.cell_len <= max(width, 16) for line in lines)


def test_a_falling_loss_is_drawn_falling() -> None:
    lines = plot({1: 3.0, 50: 2.0, 100: 1.0}, {}, width=40, height=5, ascii_only=True)
    columns = [line.plain.index("*") for line in lines]
    assert columns == sorted(columns)
    assert lines[0].plain.startswith("3.00")
    assert lines[-1].plain.startswith("1.00")


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (61, "1:01"), (3725, "1:02:05"), (-3, "0:00")])
def test_times_are_short(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_only_the_last_events_are_kept() -> None:
    made = Scene(job_id="j", host=hosts.LOCAL)
    made.add(Poll(job(), [event(n, str(n)) for n in range(1000)]))
    assert len(made.events) < 20
    assert made.events[-1].message == "999"
