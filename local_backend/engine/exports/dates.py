"""Chat templates that write today's date, for files that are written once."""

from __future__ import annotations

import copy
from datetime import datetime

from local_backend.engine.template import Template
from local_backend.task import UserError

_CONVERSATIONS = (["user"], ["system", "user"])
_NO_CLOCK = "{% set strftime_now = no_clock +%}"
"""Put before a template, it finds no clock; the plus leaves the template's own first line end."""


def still(template: Template) -> tuple[Template, str | None]:
    """Return the template with a date that stays, and in words which: that of the day, if it needs a clock.

    Templates that write no date are returned as they are, without words.
    """
    if not _follows_clock(template):
        return template, None
    known = "The model's chat template writes today's date; this file always has"
    without_clock = _led_by(_NO_CLOCK, template)
    if _prompts(without_clock) is not None:
        return without_clock, f"{known} the one that the template has where there is no clock."
    return template, f"{known} that of its export, {datetime.now().astimezone():%Y-%m-%d}: change it below."


def _follows_clock(template: Template) -> bool:
    try:
        source = template.tokenizer.get_chat_template()
    except ValueError:  # there is none for conversations without tools
        return False
    if "strftime_now" not in source:
        return False
    clocks = ("{% macro strftime_now(form) %}" + day + "{% endmacro +%}" for day in ("01", "02"))
    one, other = (_prompts(_led_by(clock, template)) for clock in clocks)
    return one is None or one != other


def _led_by(text: str, template: Template) -> Template:
    tokenizer = copy.copy(template.tokenizer)
    tokenizer.chat_template = text + tokenizer.get_chat_template()
    return Template(tokenizer, stop_ids=sorted(template.stop_ids))


def _prompts(template: Template) -> list[list[int]] | None:
    """What the template makes of some conversations; None if it refuses one."""
    try:
        return [template.prompt([{"role": role, "content": "x"} for role in roles]) for roles in _CONVERSATIONS]
    except UserError:
        return None
