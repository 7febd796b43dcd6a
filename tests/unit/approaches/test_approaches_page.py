"""The page of a comparison of approaches: the verdict and its reasons, approaches by their names, what they take."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ftclient.approaches import verdict
from ftclient.approaches.wishes import TITLES
from ftclient.evaluate.page_words import WORDS
from tests.unit.approaches.test_approaches import outcomes
from tests.unit.evaluate.test_page import Elements


def test_the_verdict_and_its_reasons_are_on_the_page(tmp_path: Path) -> None:
    found = outcomes({"base": 2, "examples": 10, "lora": 36})
    path = tmp_path / "page.html"
    text = found.to_html(path, title="test.jsonl")
    assert path.read_text("utf-8") == text
    assert "<h2>Fine-tune with LoRA.</h2>" in text
    for reason in found.verdict.reasons:
        assert f"<li>{reason}</li>" in text
    assert "fine-tuning (LoRA) is better than base model" in text
    for title, value in (
        ("training", "1:00"),
        ("a call", "1.00 s $0.05000"),
        ("prompt", "10 tokens"),
        ("alone", "65%"),
    ):
        assert f"<th>{title}</th>" in text
        assert f"<td>{value}</td>" in text
    data = json.loads(Elements(text).scripts[0])
    assert data["models"] == ["base model", "examples in the prompt", "fine-tuning (LoRA)"]


def test_what_was_left_out_is_said_with_the_reasons() -> None:
    found = outcomes({"base": 2, "lora": 36})
    skipped = replace(found, skipped={"rag": "Name a folder with <documents>."})
    assert "<li>Not tried: retrieval (RAG). Name a folder with &lt;documents&gt;.</li>" in skipped.to_html()


def test_the_page_speaks_japanese() -> None:
    text = outcomes({"base": 2, "lora": 36}).to_html(lang="ja")
    assert "<h2>LoRA でファインチューニングしてください。</h2>" in text
    assert "ファインチューニング(LoRA) は ベースモデル より優れています" in text
    with pytest.raises(ValueError, match="en and ja"):
        outcomes({"base": 2}).to_html(lang="fr")


@pytest.mark.parametrize("text", [*verdict.ADVICE.values(), verdict.NOTHING_HELPS, verdict.UNDECIDED, *TITLES.values()])
def test_every_advice_and_every_approach_has_its_japanese(text: str) -> None:
    assert text in WORDS["ja"]
