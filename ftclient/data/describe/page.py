"""A description as one HTML page: no scripts, nothing loaded, plots inline."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftclient.data.describe import svg
from ftclient.data.describe.words import noun, say

if TYPE_CHECKING:
    from ftclient.data.describe.description import Description

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_SHOWN_BARS = 16
_SHOWN_CASES = 10
_CODE = re.compile("`([^`]+)`")


def page(description: Description, *, lang: str) -> str:
    """The page as a string of HTML in a language of `LANGS`."""
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    title = f"{description.source} – {say('title', lang)}"  # noqa: RUF001  a dash
    return (
        f'<!doctype html>\n<html lang="{lang}">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(_parts(description, lang))
        + "\n</main>\n</body>\n</html>\n"
    )


def _parts(description: Description, lang: str) -> Iterator[str]:
    found = description.found
    yield _head(description.source, found, lang)
    yield _card("verdict", lang, _verdict(description, lang))
    yield f'<div class="columns">{"".join(_plots(found, lang))}</div>'
    if found["trained"]:
        yield _card("trained", lang, _trained(found["trained"], lang))
    if found["labels"]:
        yield _card("labels", lang, "".join(_labels(labels, lang) for labels in found["labels"]))
    for key, title in (("same_prompt", "ambiguity"), ("near_prompt", "ambiguity.near")):
        if found["ambiguity"][key]:
            yield _card(title, lang, _disagreements(found["ambiguity"], key, lang))
    yield _card("duplicates", lang, _duplicates(found["duplicates"], lang))
    yield _card("personal_data", lang, _personal_data(found["personal_data"], lang))
    yield _card("answers", lang, _answers(found["answer_format"], lang) + _refusals(found["refusals"], lang))
    if found["outliers"]:
        yield _card("outliers", lang, _outliers(found["outliers"], lang))


def _card(key: str, lang: str, inside: str) -> str:
    return f'<section class="card"><h2>{escape(say(key, lang))}</h2>{inside}</section>'


def _head(source: str, found: Mapping[str, Any], lang: str) -> str:
    tokens, check = found["tokens"], found["check"]
    numbers = [_counted(found["n_examples"], "examples", lang)]
    if tokens:
        about = "≈ " if tokens["is_estimate"] else ""
        numbers.append((f"{about}{tokens['total']:,}", say("tokens.total", lang)))
        if tokens["trained"] is not None:
            numbers.append((f"{about}{tokens['trained']:,}", say("tokens.trained", lang)))
    numbers += [_counted(check["n_errors"], "errors", lang), _counted(check["n_warnings"], "warnings", lang)]
    shown = "".join(f"<div><b>{value}</b><span>{escape(words)}</span></div>" for value, words in numbers)
    counted = f"{say('tokens.note', lang)} {tokens['encoding']}" if tokens else say("tokens.none", lang)
    model = f"{found['model']}, " if found["model"] else ""
    return (
        f"<header><h1>{escape(source)}</h1><p class='soft'>{escape(say('title', lang))} ({escape(model + counted)})</p>"
        f'<div class="numbers">{shown}</div></header>'
    )


def _counted(n: int, key: str, lang: str) -> tuple[str, str]:
    return f"{n:,}", noun(key, lang, n=n)


def _verdict(description: Description, lang: str) -> str:
    if not description.verdict:
        return f'<p class="fine">{escape(say("nothing", lang))}</p>'
    items = []
    for advice in description.verdict:
        words = _CODE.sub(r"<code>\1</code>", escape(advice.text(lang)))
        lines = ", ".join(map(str, dict.fromkeys(advice.lines[:8])))
        where = f' <span class="soft">({escape(say("lines", lang))} {lines})</span>' if lines else ""
        rank = escape(say(f"rank.{advice.rank}", lang))
        items.append(f'<li><span class="rank rank-{advice.rank}">{rank}</span><span>{words}{where}</span></li>')
    return f'<ol class="verdict">{"".join(items)}</ol>'


def _plots(found: Mapping[str, Any], lang: str) -> Iterator[str]:
    tokens = found["tokens"]
    if tokens and tokens["by_role"]:
        roles = [(role, n, f"{n:,}") for role, n in tokens["by_role"].items() if n]
        title = say("tokens.by_role", lang)
        yield _card("tokens.by_role", lang, svg.bars(roles, title=title))
    if tokens and tokens["histogram"]:
        title = say("tokens.per_example", lang)
        plot = svg.columns(tokens["histogram"], title=title, unit=say("tokens", lang))
        context = tokens["context_tokens"]
        note = f'<p class="soft">{escape(say("context", lang))}: {context:,}</p>' if context else ""
        yield _card("tokens.per_example", lang, plot + note)
    yield _card("turns", lang, svg.bars(_turn_bars(found["turns"]), title=say("turns", lang)))
    yield _card("languages", lang, _languages(found["languages"], lang))


def _turn_bars(turns: Mapping[int, int]) -> list[tuple[str, float, str]]:
    return [(str(n), count, f"{count:,}") for n, count in list(turns.items())[:_SHOWN_BARS]]


def _languages(languages: Mapping[str, Any], lang: str) -> str:
    parts = []
    for side in ("prompts", "answers"):
        shown = [(code, share, f"{share:.1%}") for code, share in list(languages[side].items())[:8]]
        if shown:
            name = say(f"languages.{side}", lang)
            parts.append(f"<h3>{escape(name)}</h3>{svg.bars(shown, title=name)}")
    if not languages["is_complete"]:
        parts.append(f'<p class="soft">{escape(say("languages.partly", lang))}</p>')
    return "".join(parts) or _none(lang)


def _trained(examples: Sequence[Mapping[str, Any]], lang: str) -> str:
    parts = [f'<p class="soft">{escape(say("trained.how", lang))}</p>']
    for example in examples:
        spans = "".join(
            f"<span{' class=t' if token['weight'] > 0 else ''}>{escape(token['text'])}</span>"
            for token in example["tokens"]
            if token["text"]
        )
        share = say("trained.count", lang, **{key: example[key] for key in ("line", "n_trained", "n_tokens")})
        parts.append(f'<h3>{escape(share)}</h3><div class="tokens">{spans}</div>')
    return "".join(parts)


def _labels(labels: Mapping[str, Any], lang: str) -> str:
    numbers = say(
        "labels.numbers", lang, n=labels["n_labels"], balance=labels["balance"], entropy=labels["entropy_bits"]
    )
    entries = [(entry["label"], entry["n"], f"{entry['n']:,}") for entry in labels["counts"]]
    plot, rest = _two_columns(entries[:_SHOWN_BARS], lang), entries[_SHOWN_BARS:]
    if rest:
        more = escape(say("rest", lang, n=len(rest)))
        plot += f"<details><summary>{more}</summary>{_two_columns(rest, lang)}</details>"
    field = "" if labels["field"] is None else f"<h3>{escape(labels['field'])}</h3>"
    return f"{field}<p>{escape(numbers)}</p>{plot}"


def _two_columns(entries: list[tuple[str, float, str]], lang: str) -> str:
    """Bars in two columns on one scale."""
    half = -(-len(entries) // 2) if len(entries) > 4 else len(entries)  # noqa: PLR2004  a few stay together
    most = max((value for _, value, _ in entries), default=1)
    plots = [svg.bars(side, title=say("labels", lang), most=most) for side in (entries[:half], entries[half:]) if side]
    return f'<div class="pair">{"".join(plots)}</div>'


def _disagreements(ambiguity: Mapping[str, Any], key: str, lang: str) -> str:
    rows = [
        (
            case["prompt"],
            "  |  ".join(f"{entry['answer']} ×{entry['n']}" for entry in case["answers"]),  # noqa: RUF001  times
            _lines(case["lines"]),
        )
        for case in ambiguity[key][:_SHOWN_CASES]
    ]
    return _table([say("column.prompt", lang), say("column.answers", lang), say("lines", lang)], rows)


def _duplicates(duplicates: Mapping[str, Any], lang: str) -> str:
    if not duplicates["n_exact"] and not duplicates["n_near"]:
        return _none(lang)
    numbers = say("duplicates.numbers", lang, exact=duplicates["n_exact"], near=duplicates["n_near"])
    cases = [*duplicates["exact"], *duplicates["near"]][:_SHOWN_CASES]
    rows = [(case["prompt"], f"{case['n']:,}", _lines(case["lines"])) for case in cases]
    table = _table([say("column.prompt", lang), say("column.n", lang), say("lines", lang)], rows)
    return f"<p>{escape(numbers)}</p>{table}"


def _personal_data(personal: Mapping[str, Any], lang: str) -> str:
    if not personal["by_kind"]:
        return _none(lang)
    kinds = [(kind, n, f"{n:,}") for kind, n in personal["by_kind"].items()]
    rows = [(str(place["line"]), place["path"], place["masked"]) for place in personal["places"][:_SHOWN_CASES]]
    table = _table([say("line", lang), say("column.where", lang), say("column.found", lang)], rows)
    return svg.bars(kinds, title=say("personal_data", lang)) + table


def _answers(answers: Mapping[str, Any], lang: str) -> str:
    if not answers["json_share"]:
        return f"<p>{escape(say('answers.json', lang, share='0%'))}</p>"
    share = say("answers.json", lang, share=f"{answers['json_share']:.0%}")
    schema = ", ".join(f"{entry['key']}: {entry['type']}" for entry in answers["schema"])
    parts = [f"<p>{escape(share)} <code>{escape(schema)}</code></p>" if schema else f"<p>{escape(share)}</p>"]
    if answers["drift"]:
        rows = [(str(item["line"]), item["difference"]) for item in answers["drift"][:_SHOWN_CASES]]
        parts.append(_table([say("line", lang), say("column.difference", lang)], rows))
    return "".join(parts)


def _refusals(refusals: Mapping[str, Any], lang: str) -> str:
    text = say("answers.refusals", lang, n=refusals["n"], share=f"{refusals['share']:.1%}")
    where = f' <span class="soft">({escape(say("lines", lang))} {_lines(refusals["lines"])})</span>'
    return f"<p>{escape(text)}{where if refusals['n'] else ''}</p>"


def _outliers(outliers: Sequence[Mapping[str, Any]], lang: str) -> str:
    rows = [
        (str(item["line"]), say(f"why.{item['why']}", lang), str(item["detail"])) for item in outliers[:_SHOWN_CASES]
    ]
    return _table([say("line", lang), say("column.why", lang), say("column.found", lang)], rows)


def _table(header: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _lines(lines: Sequence[int]) -> str:
    return ", ".join(map(str, lines[:6])) + (" …" if len(lines) > 6 else "")  # noqa: PLR2004  about a cell's width


def _none(lang: str) -> str:
    return f'<p class="fine">{escape(say("none", lang))}</p>'
