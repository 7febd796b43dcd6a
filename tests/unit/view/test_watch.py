"""Watching a job of a real backend, without and with a terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from ftclient import Client, Dataset, LocalOptions, Simulate, Supervised
from ftclient.jobs.follow import Poll
from ftclient.view.notebook import html
from ftclient.view.plain import Lines
from ftclient.view.watch import LiveScreen, PlainScreen, can_draw, screen_for, watch
from tests.unit.view.scenes import done, half_way, job, scene, step


class Terminal(io.StringIO):
    """A stream that says it is a terminal, as rich asks."""

    def isatty(self) -> bool:
        return True


def questions() -> Dataset:
    return Dataset(
        {
            "messages": [
                {"role": "user", "content": f"What is {n} plus one?"},
                {"role": "assistant", "content": f"It is {n + 1}."},
            ]
        }
        for n in range(12)
    )


@pytest.fixture
def started(ft_client: Client):
    """A job of 24 timed steps."""
    data = questions()
    local = LocalOptions(simulate=Simulate(speed="timed", seconds_per_step=0.02))
    plan = ft_client.plan(
        data, model="smollm2-135m", method=Supervised(n_epochs=2, batch_size=1), local=local, suffix="watched"
    )
    return ft_client.train(plan)


def test_without_a_terminal_there_are_plain_lines_and_nothing_twice(started) -> None:
    console = Console(file=io.StringIO(), width=40)
    ended = watch(started, console=console)
    lines = console.file.getvalue().splitlines()
    assert ended.status == "succeeded"
    assert lines[0].startswith(f"Job {started.id}: smollm2-135m")
    assert "Status: done" in lines
    assert f"  {ended.fine_tuned_model}" in lines  # whole, although the line is longer than 40 columns
    events = [line for line in lines if "Step " in line]
    assert len(events) == len(set(events))
    assert not any("\x1b" in line for line in lines)


@pytest.mark.parametrize(("n_epochs", "has_valid"), [(20, True), (2, True), (20, False)])
def test_the_end_names_the_best_checkpoint_where_the_last_is_not_the_best(
    ft_client: Client,
    n_epochs: int,
    has_valid: bool,  # noqa: FBT001 - a case of the table
) -> None:
    """Simulated losses fall and are noisy: of many epochs an earlier one is the best, of two the last."""
    data = questions()
    method = Supervised(n_epochs=n_epochs, batch_size=12)
    plan = ft_client.plan(data, valid=data if has_valid else None, model="smollm2-135m", method=method, seed=4)
    started = ft_client.train(plan)
    console = Console(file=io.StringIO(), width=200)
    watch(started, console=console)
    text, result = console.file.getvalue(), started.result()
    is_earlier = n_epochs > 2 and has_valid
    assert (result.best_checkpoint is not result.checkpoints[-1]) == is_earlier
    assert ("did better" in text) == is_earlier
    assert not is_earlier or f"  {result.best_model}\n" in text
    assert f"  {result.model}\n" in text


def test_on_a_terminal_the_last_picture_stays(started) -> None:
    console = Console(file=Terminal(), width=80, height=40, force_terminal=True, legacy_windows=False, _environ={})
    ended = watch(started, console=console)
    text = console.file.getvalue()
    assert "\x1b[" in text
    assert "╯" in text[-40:]
    assert ended.fine_tuned_model in text


def test_ctrl_c_leaves_the_view_says_how_to_come_back_and_the_job_goes_on(started) -> None:
    class Impatient(PlainScreen):
        def show(self, scene, poll) -> None:
            if scene.course.step >= 2:
                raise KeyboardInterrupt
            super().show(scene, poll)

    console = Console(file=io.StringIO(), width=40)
    with pytest.raises(KeyboardInterrupt):
        watch(started, console=console, screen=Impatient(console))
    last = console.file.getvalue().splitlines()[-1]
    assert last == f"Left the view; job {started.id} goes on. Come back with: ftclient watch {started.id}"
    assert started.wait(timeout_s=60).model


@pytest.mark.parametrize(
    ("stream", "environ", "drawn"),
    [
        (Terminal, {}, True),
        (Terminal, {"TERM": "dumb"}, False),
        (Terminal, {"TTY_INTERACTIVE": "0"}, False),
        (Terminal, {"NO_COLOR": "1"}, True),
        (io.StringIO, {}, False),
        (io.StringIO, {"FORCE_COLOR": "1"}, False),  # colours in a log of CI are wanted, pictures are not
    ],
)
def test_pictures_are_for_terminals_alone(stream, environ: dict[str, str], drawn: bool) -> None:  # noqa: FBT001
    console = Console(file=stream(), _environ=environ)
    assert can_draw(console) is drawn
    screen = screen_for(console)
    assert isinstance(screen, LiveScreen if drawn else PlainScreen)
    screen.close()


def test_plain_lines_thin_out_the_steps_but_tell_every_evaluation() -> None:
    lines, made = Lines(), scene()
    printed = []
    for n in range(1, 1001):
        more = {"full_valid_loss": 1.0} if n % 250 == 0 else {}
        poll = Poll(job(), [step(n, 1000, 1.0, **more)])
        made.add(poll)
        printed += lines.of(made, poll)
    assert 20 <= sum("Step " in line for line in printed) <= 25
    assert sum(f"Step {n}/1000" in line for line in printed for n in (250, 500, 750, 1000)) == 4


def test_trouble_on_the_line_is_said_once() -> None:
    lines, made = Lines(), scene()
    polls = [Poll(job(), []), Poll(None, (), "No answer."), Poll(None, (), "No answer."), Poll(job(), [])]
    printed = []
    for poll in polls:
        made.add(poll)
        printed += lines.of(made, poll)
    assert printed.count("No answer.") == 1


def test_a_notebook_gets_html_with_the_same_picture() -> None:
    page = html(done())
    assert page.startswith("<pre")
    assert "ft:smollm2-135m:personal::a1b2c3d4" in page
    assert "<script" not in html(half_way())
