"""The page of a comparison: complete in itself, safe with any text, in English and Japanese."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from html.parser import HTMLParser

import pytest
from rich.console import Console

from ftclient import Dataset
from ftclient.demo import dataset_path
from ftclient.evaluate.compare import Comparison
from ftclient.evaluate.page_words import WORDS
from ftclient.evaluate.questions import Answer, questions_of

NASTY = "</script><script>alert(1)</script><img src=x onerror=alert(2)> \u2028 & \ud800"
MODELS = ("base<b>", "tuned&co")


def comparison(lang: str) -> Comparison:
    questions = questions_of(list(Dataset.read(dataset_path(lang)))[:12])
    first = [Answer(text=NASTY) for _ in questions]
    other = [Answer(text=question.expected) for question in questions]
    return Comparison(questions=questions, given=dict(zip(MODELS, (first, other), strict=True)))


class Elements(HTMLParser):
    """Collects elements, their attributes, and what the scripts hold."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._is_script = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self._is_script = tag == "script"

    def handle_endtag(self, _tag):
        self._is_script = False

    def handle_data(self, data):
        if self._is_script:
            self.scripts.append(data)


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_the_page_needs_nothing_else_and_no_text_becomes_code(lang, tmp_path):
    path = tmp_path / "page.html"
    text = comparison(lang).to_html(path, title="support<1>.jsonl", lang=lang)
    assert path.read_text("utf-8") == text
    page = Elements(text)
    assert not any("src" in attributes or "href" in attributes for _, attributes in page.found)
    assert [tag for tag, _ in page.found].count("script") == 2
    assert "img" not in [tag for tag, _ in page.found]
    assert not re.search(r"https?://|url\(|@import", text)
    assert dict(page.found[0][1])["lang"] == lang
    policy = next(attributes["content"] for tag, attributes in page.found if "http-equiv" in attributes)
    digest = base64.b64encode(hashlib.sha256(page.scripts[-1].encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert "support&lt;1&gt;.jsonl" in text
    assert "base&lt;b&gt;" in text


def test_the_pages_data_are_all_questions_and_answers():
    found = comparison("ja")
    data = json.loads(Elements(found.to_html(lang="ja")).scripts[0])
    assert data["models"] == list(MODELS)
    assert len(data["rows"]) == 12
    row = data["rows"][3]
    assert row["q"] == found.questions[3].text
    assert row["e"] == row["a"][1] == found.questions[3].expected
    assert row["a"][0] == NASTY.replace("\ud800", "?")
    assert row["r"] == [False, True]
    assert row["m"][0].startswith("system: ")


def test_figures_and_verdicts_are_on_the_page():
    text = comparison("en").to_html()
    assert "tuned&amp;co is better than base&lt;b&gt;" in text
    assert "exact match +100\u00a0pp" in text
    assert "12\u00a0mended, 0\u00a0broken" in text
    for kind in ("all", "right", "wrong", "mended", "broken", "differ"):
        assert f'data-kind="{kind}"' in text
    japanese = comparison("ja").to_html(lang="ja")
    assert "tuned&amp;co は base&lt;b&gt; より優れています" in japanese
    assert "完全一致" in japanese


def test_what_went_wrong_is_on_the_page_and_in_the_terminal():
    found = comparison("en")
    refused = [Answer(text="", error="The prompt is <too long>."), *found.given[MODELS[0]][1:]]
    given = {MODELS[0]: refused, MODELS[1]: found.given[MODELS[1]]}
    noted = Comparison(questions=found.questions, given=given, notes=["The grader failed on 1 of 12 answers."])
    text = noted.to_html()
    assert "The grader failed on 1 of 12 answers." in text
    assert "refused questions count as wrong (1): The prompt is &lt;too long&gt;." in text
    console = Console(file=io.StringIO(), width=100)
    console.print(noted)
    assert "The grader failed on 1 of 12 answers." in console.file.getvalue()
    assert "The prompt is <too long>." in console.file.getvalue()


def test_one_model_has_nothing_to_be_compared_with():
    questions = questions_of(
        [{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a b"}]}]
    )
    text = Comparison(questions=questions, given={"one": [Answer(text="a b")]}).to_html()
    assert "mended" not in re.sub(r'<script id="data".*', "", text, flags=re.DOTALL)


def test_the_page_speaks_the_same_words_in_all_its_languages():
    missing = set(WORDS["en"]) - set(WORDS["ja"])
    assert not missing
    with pytest.raises(ValueError, match="en and ja"):
        comparison("en").to_html(lang="fr")
