"""A description in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from ftclient.data.describe.verdict import Advice
from ftclient.data.describe.words import noun, say

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ftclient.data.describe.description import Description

_BAR_CHARS = 24
_SHOWN_LABELS = 12
_SHOWN_CASES = 3
_STYLES = {1: "bold red", 2: "yellow", 3: "cyan"}


def render(description: Description, *, lang: str) -> Group:
    """The verdict first, then the numbers that it rests on."""
    return Group(*_parts(description, lang))


def _parts(description: Description, lang: str) -> Iterator[RenderableType]:
    found = description.found
    n = found["n_examples"]
    yield Text(f"{description.source}: {n:,} {noun('examples', lang, n=n)}", style="bold")
    yield _tokens(found, lang)
    yield Text()
    yield Text(say("verdict", lang), style="bold")
    yield _verdict(description.verdict, lang)
    for title, bars in _bar_charts(found, lang):
        yield Text()
        yield Text(title, style="bold")
        yield _bars(bars)
    if not found["languages"]["is_complete"]:
        yield Text(say("languages.partly", lang), style="dim")
    for title, cases in _disagreements(found["ambiguity"], lang):
        yield Text()
        yield Text(title, style="bold")
        yield from cases
    if found["trained"]:
        yield Text()
        yield Text(say("trained", lang), style="bold")
        yield _trained(found["trained"][0], lang)


def _tokens(found: Mapping[str, Any], lang: str) -> Text:
    tokens = found["tokens"]
    if not tokens:
        return Text(say("tokens.none", lang) + str(found["model"] or ""), style="dim")
    each = tokens["per_example"]
    trained = "" if tokens["trained"] is None else f", {tokens['trained']:,} {say('tokens.trained', lang)}"
    line = (
        f"{tokens['total']:,} {say('tokens.total', lang)} ({tokens['encoding']}){trained}; {each['min']:,} / "
        f"{each['median']:,} / {each['p95']:,} / {each['max']:,} (min / median / 95 % / max)"
    )
    return Text(line, style="dim")


def _verdict(verdict: Sequence[Advice], lang: str) -> RenderableType:
    if not verdict:
        return Text(say("nothing", lang), style="green")
    table = Table.grid(padding=(0, 1))
    for number, advice in enumerate(verdict, 1):
        words = Text(advice.text(lang))
        if advice.lines:
            lines = ", ".join(map(str, dict.fromkeys(advice.lines[:6])))
            words.append(f"  ({say('lines', lang)} {lines})", style="dim")
        table.add_row(f"{number}.", Text(say(f"rank.{advice.rank}", lang), style=_STYLES[advice.rank]), words)
    return table


def _bar_charts(found: Mapping[str, Any], lang: str) -> Iterator[tuple[str, list[tuple[str, float, str]]]]:
    tokens, languages = found["tokens"], found["languages"]
    if tokens and tokens["by_role"]:
        by_role = tokens["by_role"]
        yield say("tokens.by_role", lang), [(role, n, f"{n:,}") for role, n in by_role.items() if n]
    if tokens and tokens["histogram"]:
        bins = tokens["histogram"]
        yield say("tokens.per_example", lang), [(_span(b["from"], b["to"]), b["n"], f"{b['n']:,}") for b in bins]
    if len(found["turns"]) > 1:
        yield say("turns", lang), [(str(n), count, f"{count:,}") for n, count in found["turns"].items()]
    yield from (_labels(labels, lang) for labels in found["labels"])
    if languages["prompts"]:
        yield say("languages", lang), [(code, share, f"{share:.1%}") for code, share in languages["prompts"].items()]


def _span(low: int, high: int) -> str:
    return f"{low}" if low == high else f"{low}-{high}"


def _labels(labels: Mapping[str, Any], lang: str) -> tuple[str, list[tuple[str, float, str]]]:
    numbers = say(
        "labels.numbers", lang, n=labels["n_labels"], balance=labels["balance"], entropy=labels["entropy_bits"]
    )
    shown = [(entry["label"], entry["n"], f"{entry['n']:,}") for entry in labels["counts"][:_SHOWN_LABELS]]
    more = labels["n_labels"] - len(shown)
    rest = f"  ({say('rest', lang, n=more)})" if more > 0 else ""
    return f"{labels['field'] or say('labels', lang)}: {numbers}{rest}", shown


def _bars(entries: Sequence[tuple[str, float, str]]) -> Table:
    most = max((value for _, value, _ in entries), default=1) or 1
    table = Table.grid(padding=(0, 1))
    table.add_column(overflow="ellipsis", max_width=32, no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    for name, value, shown in entries:
        eighths = round(value / most * _BAR_CHARS * 8)
        bar = "█" * (eighths // 8) + ("", *"▏▎▍▌▋▊▉")[eighths % 8]
        table.add_row(Text(name), Text(bar or "▏" * (value > 0), style="blue"), shown)
    return table


def _disagreements(ambiguity: Mapping[str, Any], lang: str) -> Iterator[tuple[str, list[Text]]]:
    for key, title in (("same_prompt", "ambiguity"), ("near_prompt", "ambiguity.near")):
        cases = ambiguity[key][:_SHOWN_CASES]
        if cases:
            yield say(title, lang), [_case(case, lang) for case in cases]


def _case(case: Mapping[str, Any], lang: str) -> Text:
    answers = " | ".join(f"{entry['answer']} x{entry['n']}" for entry in case["answers"])
    lines = ", ".join(map(str, case["lines"][:6]))
    return Text.assemble(f"  {case['prompt']}  ", (answers, "yellow"), (f"  ({say('lines', lang)} {lines})", "dim"))


def _trained(example: Mapping[str, Any], lang: str) -> Text:
    text = Text(f"{say('trained.how', lang)}\n", style="dim")
    for token in example["tokens"]:
        style = "not dim bold green" if token["weight"] > 0 else "not dim"
        text.append(token["text"], style=style)
    return text
