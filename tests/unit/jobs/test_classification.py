"""A classifier's figures are read from its job's details, shown label by label, and drawn."""

import io
import xml.etree.ElementTree as ET

import pytest
from rich.console import Console

from ftclient.jobs.classification import classification_of, weakest
from ftclient.jobs.classification_image import classification_svg, write_classification
from ftclient.view.classes import render


def details(**more):
    rows = [
        {"label": "[bold]late", "precision": 0.5, "recall": 1.0, "f1": 2 / 3, "n": 2},
        {"label": "lost", "precision": 1.0, "recall": 0.5, "f1": 2 / 3, "n": 4},
        {"label": "broken", "precision": 0.0, "recall": 0.0, "f1": 0.0, "n": 0},
    ]
    said = {
        "step": 12,
        "n": 6,
        "accuracy": 4 / 6,
        "macro_f1": 2 / 3,
        "as_trained": {"ece": 0.21, "bins": [{"confidence": 0.9, "right": 0.5, "n": 6}]},
        "calibrated": {
            "ece": 0.05,
            "bins": [{"confidence": 0.4, "right": 0.5, "n": 2}, {"confidence": 0.7, "right": 0.75, "n": 4}],
        },
        "temperature": 1.8,
        "per_class": rows,
        "confusion": [[2, 0, 0], [2, 2, 0], [0, 0, 0]],
    }
    return {"facts": {"classification": {**said, **more}}}


def shown(found, width=80):
    out = Console(file=io.StringIO(), width=width, color_system=None)
    out.print(render(found))
    return out.file.getvalue()


def test_details_without_a_classifier_have_no_figures():
    assert classification_of({}) is None
    assert classification_of({"facts": {"engine": "torch"}}) is None


def test_the_pairs_that_are_mixed_up_and_the_weakest_labels_that_occur():
    found = classification_of(details())
    assert found.confused() == [("lost", "[bold]late", 2)]
    many = details(confused=[{"label": "lost", "given": "broken", "n": 3}, {"label": "late", "given": "lost", "n": 1}])
    del many["facts"]["classification"]["confusion"]
    assert classification_of(many).confused(most=1) == [("lost", "broken", 3)]
    assert [each.label for each in weakest(found.per_class, most=5)] == ["[bold]late", "lost"]


def test_a_terminal_shows_accuracy_calibration_and_labels_as_they_are_written():
    text = shown(classification_of(details()))
    assert "accuracy 66.7% · macro F1 0.667 · 6 examples" in text
    assert "calibration error 0.210, 0.050 at temperature 1.80, which the model has" in text
    assert "rests on" not in text
    assert "It rests on 2 wrong answers." in shown(
        classification_of(details(temperature_note="It rests on 2 wrong answers."))
    )
    assert "[bold]late" in text
    assert "lost taken for [bold]late: 2" in text
    assert max(map(len, shown(classification_of(details()), width=40).splitlines())) <= 40


def test_the_picture_has_a_cell_for_each_pair_a_bar_for_each_label_and_both_curves(tmp_path):
    found = classification_of(details())
    root = ET.fromstring(classification_svg(found, title="<job>"))  # noqa: S314 - written by ourselves
    cells = [each for each in root if each.get("fill", "").startswith("rgba")]
    assert len(cells) == 9
    assert len([each for each in root if each.get("class") == "bar"]) == 2
    assert len([each for each in root if each.get("class") == "curve"]) == 2
    written = write_classification(found, tmp_path / "figures.png", title="job")
    assert written.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match=r"as \.svg or \.png"):
        write_classification(found, tmp_path / "figures.gif", title="job")


def test_several_labels_each_have_no_square():
    root = ET.fromstring(classification_svg(classification_of(details(confusion=[])), title="job"))  # noqa: S314 - same
    assert not [each for each in root if each.get("fill", "").startswith("rgba")]
