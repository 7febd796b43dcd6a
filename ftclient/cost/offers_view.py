"""How offers, and the use of a model, look in a terminal."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ftclient.cost.words import dollars

if TYPE_CHECKING:
    from ftclient.cost.offers import Offer, Offers
    from ftclient.cost.usage import Use


def render(found: Offers) -> RenderableType:
    """Return a table of all offers, with footnotes, and under it what was left out and why."""
    has_use = any(offer.use for offer in found.offers)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("host", no_wrap=True)
    table.add_column("model", overflow="fold")
    for name in ("training", *(("a month", "untuned", "pays") if has_use else ())):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("notes", no_wrap=True)
    notes: dict[str, int] = {}
    for offer in found.offers:
        table.add_row(*(Text(cell) for cell in _row(offer, has_use=has_use)), _marks(offer, notes))
    footnotes = [Text(f"{number}  {note}") for note, number in notes.items()]
    return Group(table, *footnotes, *_left_out(found))


def _marks(offer: Offer, notes: dict[str, int]) -> Text:
    """Return the numbers of an offer's footnotes, which are numbered as they come."""
    ends = []
    if offer.last_training_day and offer.last_training_day < (offer.shutdown or "9999"):
        ends.append(f"starts no jobs after {offer.last_training_day}")
    if offer.shutdown:
        ends.append(f"shut down on {offer.shutdown} with all that was tuned on it")
    sentence = "; ".join(ends)
    found = [*offer.notes, *([f"{sentence[0].upper()}{sentence[1:]}."] if sentence else [])]
    return Text(",".join(str(notes.setdefault(note, len(notes) + 1)) for note in found), style="dim")


def _row(offer: Offer, *, has_use: bool) -> list[str]:
    use = offer.use
    days = "" if use is None or use.break_even_days is None else f"{use.break_even_days:,} d"
    used = [dollars(use.tuned_usd_per_month if use else None), dollars(use.base_usd_per_month if use else None), days]
    return [offer.host.name, offer.model, dollars(offer.training_usd), *(used if has_use else ())]


def _left_out(found: Offers) -> list[Text]:
    lines = []
    for reason, group in groupby(sorted(found.left_out, key=lambda each: each[2]), key=lambda each: each[2]):
        names = ", ".join(f"{model} ({host})" for host, model, _ in group)
        lines.append(Text(f"Left out, {reason}: {names}", style="dim"))
    return lines


def render_use(use: Use) -> RenderableType:
    """Return what using a tuned model costs, and whether it pays."""
    traffic = use.traffic
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    calls = f"{traffic.calls_per_day:,} calls a day, {traffic.prompt_tokens:,} tokens of prompt and "
    rows = [("Use", f"{calls}{traffic.answer_tokens:,} of answer{' in batches' if traffic.in_batches else ''}")]
    hosting = use.hosting_usd_per_month
    hosted = f", {dollars(hosting)} of it for hosting" if hosting else ""
    rows.append(("Tuned", f"{dollars(use.tuned_usd_per_month)} in 30 days{hosted}"))
    shots = f" with {traffic.shots} examples in its prompt ({traffic.base_prompt_tokens:,} tokens)"
    rows.append(("Untuned", f"{dollars(use.base_usd_per_month)} in 30 days{shots if traffic.shots else ''}"))
    for name, value in [*rows, ("Verdict", use.verdict())]:
        table.add_row(name, Text(value))
    return table
