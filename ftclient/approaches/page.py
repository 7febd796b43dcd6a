"""Outcomes as the page of their comparison, with the approaches' own names, and the verdict above."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ftclient.approaches import view
from ftclient.approaches.wishes import TITLES
from ftclient.evaluate import page as comparison_page
from ftclient.evaluate.page_words import WORDS, called

if TYPE_CHECKING:
    from ftclient.approaches.outcome import Outcome, Outcomes

_COLUMNS: Mapping[str, Callable[[Outcome], str]] = {
    "alone": lambda outcome: f"{outcome.alone:.0%}",
    "training": view.training_text,
    "a call": view.call_text,
    "prompt": view.prompt_text,
}


def page(outcomes: Outcomes, *, title: str = "", lang: str = "en") -> str:
    """Return the page as a string of HTML.

    Args:
        outcomes: What came of the approaches.
        title: What was compared.
        lang: One of `comparison_page.LANGS`.

    Raises:
        ValueError: The page does not speak this language.
    """
    words = WORDS.get(lang, {})
    names = {str(name): called(text, words) for name, text in TITLES.items()}
    named = view.named(outcomes.comparison, names)
    columns = [(name, {names[each.name]: text(each) for each in outcomes.outcomes}) for name, text in _COLUMNS.items()]
    reasons = [*outcomes.verdict.reasons, *view.not_tried(outcomes)]
    lead = comparison_page.Lead(advice=outcomes.verdict.advice, reasons=reasons, columns=columns)
    return comparison_page.page(named, title=title, lang=lang, lead=lead)
