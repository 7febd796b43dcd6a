"""The dataset that `ftclient demo` trains on, written for this project.

Harubo is an invented maker of five household devices. Its customers write in, and each letter must become a ticket in
the company's own codes, which no base model can know:

    {"queue":"RMA","product":"L35","priority":"P2"}

`support.en.jsonl` holds 300 letters with their tickets, `support.ja.jsonl` the same 300 in Japanese, line by line.
Each ticket follows from the letter alone, by these rules.

queue, what the customer wants, the first that fits:
    SEC  help against a thief, a hacker, or a fraud, whatever it is about
    KEY  the account: login, password, profile, which device belongs to whom
    RMA  give a product back, exchange it, or have it refunded
    LOG  a parcel: where it is, when and where it comes, what the courier did or left out
    PAY  prices, cards, invoices, discounts, charges
    FIX  a device that no longer works as it should, or that is dangerous
    TIP  to use or look after a device that works

product, what it is about:
    K20  kettle      L35  lamp      V80  robot vacuum      A50  air purifier      S10  kitchen scale
    none  no product is named

priority:
    P1  every SEC; and FIX where somebody is or may be hurt: shock, cut, sparks, smoke, fire, burns
    P2  something has gone wrong that the company must put right
    P3  nothing is wrong: a question

No letter repeats another; `tests/unit/demo` counts the classes and holds the two languages against each other.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

__all__ = ["LANGUAGES", "Language", "dataset_path"]

Language = Literal["en", "ja"]
LANGUAGES: tuple[Language, ...] = get_args(Language)


def dataset_path(lang: Language = "en") -> Path:
    """Return where the demo's chat examples in `lang` lie: 300 lines of JSONL, one example each.

    Raises:
        ValueError: The demo is not written in this language.
    """
    if lang not in LANGUAGES:
        raise ValueError(f"The demo speaks {' and '.join(LANGUAGES)}, not {lang!r}.")
    return Path(__file__).with_name(f"support.{lang}.jsonl")
