"""A comparison as one HTML page with filters: nothing is loaded from elsewhere, and no text can become code."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftclient.evaluate.compare_json import as_json
from ftclient.evaluate.compare_view import expected_text, figure_text, is_remote, p_text, refusals
from ftclient.evaluate.page_words import WORDS, called

if TYPE_CHECKING:
    from ftclient.evaluate.compare import Comparison, Difference, Figure, Score
    from ftclient.evaluate.task import Metric

LANGS = tuple(WORDS)
_HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Lead:
    """What a page says beyond the comparison itself."""

    advice: str
    """What to do; in the page's language, if `page_words` has it."""
    reasons: Sequence[str] = ()
    """Why, in English."""
    columns: Sequence[tuple[str, Mapping[str, str]]] = ()
    """More of each model, beside the figures: a title, and a text by the model's name."""


def page(comparison: Comparison, *, title: str = "", lang: str = "en", lead: Lead | None = None) -> str:
    """Return the page as a string of HTML.

    Args:
        comparison: What models answered.
        title: What was evaluated.
        lang: One of `LANGS`.
        lead: What stands above.

    Raises:
        ValueError: The page does not speak this language.
    """
    if lang not in LANGS:
        raise ValueError(f"the page speaks {' and '.join(LANGS)}, not {lang!r}")
    words = WORDS[lang]
    style, script = (_HERE.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    name = f"{title} – {words['title']}" if title else words["title"]  # noqa: RUF001 - a dash
    return (
        f'<!doctype html>\n<html lang="{lang}">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(script)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(name)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        f"{_head(comparison, title or words['title'], words)}\n{_lead(lead, words)}\n"
        f"{_scores(comparison, words, lead.columns if lead else ())}\n"
        f"{_differences(comparison, words)}\n{_notes(comparison, words)}\n{_filters(comparison, words)}\n"
        f'<noscript><p class="card">{escape(words["script"])}</p></noscript>\n'
        '<p id="count" class="soft" role="status"></p>\n<div id="list"></div>\n'
        f'<button id="more" type="button" hidden>{escape(words["more"])}</button>\n</main>\n'
        f'<script id="data" type="application/json">{_as_data(_data(comparison, words))}</script>\n'
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


def _policy(script: str) -> str:
    """Nothing but this page's own style and this very script."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def _as_data(value: Any) -> str:
    """JSON that cannot end the element that it is in."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text.encode("utf-8", "replace").decode()


def _data(comparison: Comparison, words: Mapping[str, str]) -> dict[str, Any]:
    found = as_json(comparison)
    models = list(comparison.given)
    rights = {model: comparison.right(model) for model in models}
    rows = [
        {
            "q": comparison.questions[at].text,
            "m": [_message(each) for each in comparison.questions[at].messages],
            "e": expected_text(comparison, at),
            "a": [answer["answers"][model] for model in models],
            "r": [rights[model][at] for model in models],
            "x": [comparison.given[model][at].error for model in models],
        }
        for at, answer in enumerate(found["answers"])
    ]
    return {"models": models, "rows": rows, "words": dict(words)}


def _message(message: Any) -> str:
    content = message.get("content")
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    return f"{message.get('role')}: {text}"


def _head(comparison: Comparison, title: str, words: Mapping[str, str]) -> str:
    n = len(comparison.questions)
    return (
        f"<header><h1>{escape(title)}</h1><p>{n:,} {escape(words['questions'])}"
        f' <span class="soft">({escape(words[f"kind.{comparison.kind.kind}"])})</span></p></header>'
    )


def _lead(lead: Lead | None, words: Mapping[str, str]) -> str:
    if lead is None:
        return ""
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in lead.reasons)
    return (
        f'<section class="card lead"><h2>{escape(called(lead.advice, words))}</h2>'
        f'<ul lang="en">{reasons}</ul></section>'
    )


def _scores(comparison: Comparison, words: Mapping[str, str], columns: Sequence[tuple[str, Mapping[str, str]]]) -> str:
    metrics = [measured.metric for measured in comparison.measured]
    # Columns of the caller's own say what an answer takes, and say it better.
    with_cost = not columns and any(score.cost_usd for score in comparison.scores)
    with_seconds = not columns and any(map(is_remote, comparison.scores))
    names = [words["model"], *(called(metric.title, words) for metric in metrics)]
    names += [words[name] for name, shown in (("seconds", with_seconds), ("cost", with_cost)) if shown]
    names += [called(name, words) for name, _ in columns]
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = "".join(
        _row(score, metrics, with_seconds=with_seconds, with_cost=with_cost, more=[texts for _, texts in columns])
        for score in comparison.scores
    )
    return (
        f'<section class="card scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
        f'<p class="soft">{escape(words["interval"])}</p></section>'
    )


def _row(
    score: Score, metrics: list[Metric], *, with_seconds: bool, with_cost: bool, more: Sequence[Mapping[str, str]]
) -> str:
    cells = "".join(f"<td>{_figure(score.figures.get(metric.name), metric)}</td>" for metric in metrics)
    seconds = f"<td>{'-' if score.median_s is None else f'{score.median_s:.2f}'}</td>" if with_seconds else ""
    cost = f"<td>{'-' if score.cost_usd is None else f'${score.cost_usd:.4f}'}</td>" if with_cost else ""
    others = "".join(f"<td>{escape(texts[score.model])}</td>" for texts in more)
    return f'<tr><th scope="row">{escape(score.model)}</th>{cells}{seconds}{cost}{others}</tr>'


def _figure(figure: Figure | None, metric: Metric) -> str:
    if figure is None:
        return "-"
    low, high = (figure_text(bound, metric) for bound in figure.interval)
    bar = ""
    if 0 <= figure.interval.low <= figure.interval.high <= 1:
        left, width = 100 * figure.interval.low, 100 * (figure.interval.high - figure.interval.low)
        bar = (
            f'<span class="bar"><i style="left:{left:.1f}%;width:{width:.1f}%"></i>'
            f'<b style="left:{100 * figure.value:.1f}%"></b></span>'
        )
    return f'{figure_text(figure.value, metric)} <span class="soft">{low} – {high}</span>{bar}'  # noqa: RUF001 - a dash


def _differences(comparison: Comparison, words: Mapping[str, str]) -> str:
    metric = comparison.main.metric
    items = "".join(f"<li>{_difference(each, metric, words)}</li>" for each in comparison.differences)
    return f'<ul class="card verdicts">{items}</ul>' if items else ""


def _difference(each: Difference, metric: Metric, words: Mapping[str, str]) -> str:
    is_better = (each.value > 0) != metric.lower_is_better
    key = "same" if not each.is_real else "better" if is_better else "worse"
    value, low, high = (
        figure_text(figure, metric, signed=True).replace(" ", "\u00a0") for figure in (each.value, *each.interval)
    )
    detail = words["detail"].format(
        title=called(metric.title, words),
        value=value,
        low=low,
        high=high,
        p=p_text(each.p_value).replace(" ", "\u00a0"),
        test=called(each.test, words),
        mended=len(each.mended),
        broken=len(each.broken),
    )
    said = words[key].format(first=each.first, other=each.other)
    return f'<b class="{key}">{escape(said)}</b> <span class="soft">{escape(detail)}</span>'


def _notes(comparison: Comparison, words: Mapping[str, str]) -> str:
    refused = refusals(comparison, said=words["refused"])
    items = "".join(f"<li>{escape(note)}</li>" for note in (*refused, *comparison.notes))
    return f'<ul class="card verdicts worse">{items}</ul>' if items else ""


def _filters(comparison: Comparison, words: Mapping[str, str]) -> str:
    models = list(comparison.given)
    kinds = ["all", "right", "wrong", *(["mended", "broken", "differ"] if len(models) > 1 else [])]
    buttons = "".join(
        f'<button type="button" data-kind="{kind}" aria-pressed="{"true" if kind == "all" else "false"}">'
        f"{escape(words[kind])}</button>"
        for kind in kinds
    )
    options = "".join(f'<option value="{at}">{escape(model)}</option>' for at, model in enumerate(models))
    return (
        f'<div class="filters"><input id="search" type="search" placeholder="{escape(words["search"])}"'
        f' aria-label="{escape(words["search"])}"><label>{escape(words["by"])} <select id="model">{options}'
        f'</select></label><span class="kinds">{buttons}</span></div>'
    )
