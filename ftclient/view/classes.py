"""How a classifier's figures look in a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ftclient.data.counted import counted
from ftclient.jobs.classification import Classification, weakest
from ftclient.view.words import printable

MOST_CLASSES = 20


def render(found: Classification) -> RenderableType:
    """Return accuracy, F1 and calibration, the labels that are found worst, and what is taken for what."""
    classes = weakest(found.per_class, most=MOST_CLASSES)
    table = Table(box=None, pad_edge=False)
    for name in ("label", "precision", "recall", "F1", "examples"):
        table.add_column(name, justify="left" if name == "label" else "right", overflow="fold")
    for each in classes:
        figures = (f"{value:.3f}" for value in (each.precision, each.recall, each.f1))
        table.add_row(Text(printable(each.label)), *figures, f"{each.n:,}")
    left = len(found.per_class) - len(classes)
    more = [Text(f"({counted(left, 'label')} more, found better)", style="dim")] if left else []
    return Group(*_head(found), Text(), table, *more, *_confused(found))


def _head(found: Classification) -> list[Text]:
    head = f"accuracy {found.accuracy:.1%} · macro F1 {found.macro_f1:.3f} · {counted(found.n, 'example')}"
    calibration = f"calibration error {found.as_trained.ece:.3f}"
    if found.temperature != 1.0:
        calibration += f", {found.calibrated.ece:.3f} at temperature {found.temperature:.2f}, which the model has"
    notes = [Text(found.temperature_note, style="dim")] if found.temperature_note else []
    return [Text(head, style="bold"), Text(calibration), *notes]


def _confused(found: Classification) -> list[Text]:
    pairs = found.confused(most=5)
    if not pairs:
        return []
    lines = [f"{printable(true)} taken for {printable(given)}: {count}" for true, given, count in pairs]
    return [Text(), *[Text(line) for line in lines]]
