"""The dataset that `ftclient demo` trains on, written for this project.

Harubo is an invented maker of five household devices. Its customers write in, and each letter must become a ticket in
the company's own codes, which no base model can know:

    {"queue":"RMA","product":"L35","priority":"P2"}

`support.en.jsonl` holds 300 letters with their tickets, `support.ja.jsonl` the same 300 in Japanese, line by line.
Each ticket follows from the letter alone, by these rules.

queue, what the customer wants:
    LOG  a parcel on its way to them: where it is, when it comes, where it goes, what the courier did or left out
    RMA  give a product back, swap it, or get money for one given back
    FIX  a device that no longer works as it should, or that is dangerous
    PAY  prices, cards, invoices, vouchers, debits
    KEY  the account and the app: login, password, profile, which device belongs to whom
    TIP  use or look after a device that works
  Where two fit, what is asked for decides: a lamp that came cracked is RMA when another one is asked for.

product, what it is about:
    K20  kettle      L35  lamp      V80  robot vacuum      A50  air purifier      S10  kitchen scale
    none  no product is named

priority, the first that fits:
    P1  somebody is or may be hurt, something burns or smokes, or a stranger has the customer's money, card, or account
    P2  something has gone wrong that the company must put right
    P3  nothing is wrong: a question or a wish

Six queues with 50 letters each; 40 letters are P1, 129 are P2, 131 are P3. No letter repeats another.
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
