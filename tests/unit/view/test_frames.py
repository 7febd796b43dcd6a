"""The live view's pictures, compared with golden files, on wide, narrow, low, plain and colourless terminals.

After a wanted change: `FTCLIENT_GOLDEN=write pytest tests/unit/view`, and look at what `git diff` shows.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from ftclient.jobs.follow import Poll
from ftclient.view.curves import Curves
from ftclient.view.frame import Frame
from ftclient.view.scene import Scene
from ftclient.view.watch_many import last_table
from tests.unit.view.scenes import (
    BORN,
    at_azure,
    best_kept,
    curves,
    done,
    event,
    failed_resumable,
    half_way,
    job,
    overfitted,
    scene,
    several,
    step,
)

GOLDEN = Path(__file__).with_name("golden")


def draw(
    shown: Scene | Curves | Sequence[Scene],
    *,
    width: int = 80,
    height: int = 40,
    encoding: str = "utf-8",
    color: str | None = None,
) -> str:
    """Return the picture of a job, or the last table of several, as text, a minute after the job was made."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
    console = Console(
        file=file,
        width=width,
        height=height,
        color_system=color,  # type: ignore[arg-type]  # one of rich's names
        force_terminal=True,
        legacy_windows=False,
        _environ={},
    )
    now = BORN + 60.0
    if isinstance(shown, Scene):
        console.print(Frame(shown, now))
    else:
        console.print(shown if isinstance(shown, Curves) else last_table(shown, now=now, width=width))
    return file.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]  # a BytesIO


FRAMES = {
    "connecting": lambda: draw(scene()),
    "validating": lambda: draw(scene(Poll(job("validating_files"), [event(0, "Created fine-tuning job")]))),
    "half_way": lambda: draw(half_way()),
    "half_way_40": lambda: draw(half_way(), width=40),
    "half_way_ascii": lambda: draw(half_way(), encoding="ascii"),
    "half_way_colour": lambda: draw(half_way(), width=60, color="standard"),
    "half_way_24_lines": lambda: draw(half_way(), height=24),
    "done": lambda: draw(done()),
    "done_40": lambda: draw(done(), width=40),
    "overfitted": lambda: draw(overfitted()),
    "overfitted_40": lambda: draw(overfitted(), width=40),
    "best_kept": lambda: draw(best_kept()),
    "at_azure": lambda: draw(at_azure()),
    "at_azure_40": lambda: draw(at_azure(), width=40),
    "several": lambda: draw(several(), width=100),
    "several_40": lambda: draw(several(), width=40),
    "several_ascii": lambda: draw(several(), encoding="ascii"),
    "several_colour": lambda: draw(several(), width=100, color="standard"),
    "failed": lambda: draw(
        scene(
            Poll(
                job(
                    "failed",
                    error={"code": "invalid_file_format", "message": "Example 6 has [no] role.", "param": None},
                ),
                [event(1, "Example 6 has [no] role.", level="error")],
            )
        )
    ),
    "cancelled": lambda: draw(scene(Poll(job("cancelled", finished_at=BORN + 9), [step(1, 120, 2.5)]))),
    "failed_resumable": lambda: draw(failed_resumable()),
    "cancelled_checkpoints": lambda: draw(
        scene(
            Poll(
                job("cancelled", finished_at=BORN + 9),
                [step(1, 1, 2.5), event(9, "Checkpoint created at step 1 with Snapshot ID: ft:x"), event(9, "Ended")],
            )
        )
    ),
    "paused": lambda: draw(scene(Poll(job("paused"), [step(1, 120, 2.5)]))),
    "pausing": lambda: draw(scene(Poll(job("pausing"), [step(1, 120, 2.5)]))),
    "curves": lambda: draw(curves()),
    "curves_40_ascii": lambda: draw(curves(), width=40, encoding="ascii"),
    "unknown_status": lambda: draw(scene(Poll(job("being_polished", hyperparameters=None), []))),
    "no_answer": lambda: draw(scene(Poll(job(), [step(1, 120, 2.5)]), Poll(None, (), "OpenAI cannot be reached."))),
}


@pytest.mark.parametrize("name", FRAMES)
def test_a_picture_is_the_golden_one(name: str) -> None:
    drawn, golden = FRAMES[name](), GOLDEN / f"{name}.txt"
    if os.environ.get("FTCLIENT_GOLDEN") == "write":
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(drawn, encoding="utf-8")
    assert drawn == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [20, 40, 79, 200])
@pytest.mark.parametrize("height", [10, 18, 24, 50])
def test_a_picture_is_never_wider_than_the_terminal(width: int, height: int) -> None:
    for shown in (half_way(), done(), overfitted(), at_azure(), scene(), several(), curves()):
        lines = draw(shown, width=width, height=height).splitlines()
        assert max(map(len, lines)) <= width


@pytest.mark.parametrize("height", [18, 20, 24, 30])
def test_the_ending_fits_under_the_plot(height: int) -> None:
    """Or the name of the model would be cut off."""
    for shown in (done(), overfitted()):
        assert len(draw(shown, height=height).splitlines()) < height


def test_text_from_outside_cannot_move_the_cursor_or_be_read_as_markup() -> None:
    nasty = "[bold]\x1b[2Jred\x07\r\nnext[/bold]"
    shown = scene(Poll(job(model=nasty), [event(1, nasty)]))
    text = draw(shown)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[bold] [2Jred" in text
    assert len(set(map(len, text.splitlines()))) == 1


@pytest.mark.parametrize("made", [half_way, several])
def test_no_color_takes_colours_away_and_nothing_else(made) -> None:
    plain = draw(made(), width=60)
    assert "\x1b" not in plain
    coloured = draw(made(), width=60, color="standard")
    assert "\x1b" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain
