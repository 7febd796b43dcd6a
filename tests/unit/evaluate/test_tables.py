"""Tables of figures in terminals of any width: nothing is cut short, and lines keep to the width where they can."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.text import Text

from ftclient.evaluate.compare import Comparison
from ftclient.evaluate.questions import Answer, questions_of
from ftclient.evaluate.tables import Cells, FirstThatFits
from tests.unit.approaches.test_approaches import outcomes

MODELS = ("smollm2-135m", "ft:smollm2-135m:personal::a1b2c3d4")


def printed(shown: object, width: int) -> list[str]:
    """What a terminal of this width gets, line by line."""
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(shown)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]  # it is a StringIO


def comparison() -> Comparison:
    """Two models on forty questions, the first of them half right."""
    said = [f"The hall of parcel {n} is number {n}, behind the door." for n in range(40)]
    messages = [[{"role": "user", "content": "?"}, {"role": "assistant", "content": text}] for text in said]
    right = [Answer(text=text) for text in said]
    given = {MODELS[0]: [*right[:20], *[Answer(text="?")] * 20], MODELS[1]: right}
    return Comparison(questions=questions_of([{"messages": each} for each in messages]), given=given)


@pytest.mark.parametrize("width", [36, 40, 60, 80, 100, 250])
def test_figures_and_names_of_models_are_whole_at_any_width(width: int) -> None:
    lines = printed(comparison(), width)
    text = "\n".join(lines)
    assert max(map(len, lines)) <= width
    assert "…" not in text
    for model in MODELS:
        assert any(model in line for line in lines)
    for figure in ("50%", "100%", "35-65", "91-100"):
        assert figure in text, text


@pytest.mark.parametrize("width", [36, 40, 60, 80, 100, 250])
def test_approaches_keep_their_figures_at_any_width(width: int) -> None:
    lines = printed(outcomes({"base": 10, "head": 30, "full": 40}), width)
    text = "\n".join(lines)
    assert max(map(len, lines)) <= width
    assert "…" not in text
    for figure in ("25% (14-40)", "75% (60-86)", "100% (91-100)", "$0.05000", "10 tokens", "1:00"):
        assert figure in text, text


def test_the_first_layout_that_fits_is_taken() -> None:
    cells = Cells(title="t", caption="c", names=["who", "so many words"], rows=[[Text("a"), Text("1\n2")]])
    shown = FirstThatFits([cells.as_table(), cells.as_table(is_narrow=True), cells.as_list()])
    assert any("so many words ┃" in line for line in printed(shown, 23))
    assert any("┃ who ┃ words ┃" in line for line in printed(shown, 22))
    assert any("┃ who ┃ words ┃" in line for line in printed(shown, 15))
    assert printed(shown, 14)[1].rstrip() == "a"
