"""What an evaluation will cost at most, before anything is asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from ftclient.cost.book import PriceBook
from ftclient.cost.limit import amount
from ftclient.cost.prices import model_prices
from ftclient.data.tokens import DEFAULT_ENCODING, encoding_for, parts_of
from ftclient.errors import BudgetError
from ftclient.evaluate.questions import Answer
from ftclient.hosts import Host

_MILLION = 1_000_000
_BYTES_A_TOKEN = 2
"""Where no vocabulary can be had: tokens are longer on average, so this is no less than there will be."""


@dataclass(frozen=True, kw_only=True)
class Spending:
    """What is to be asked, and what it costs at most."""

    n_questions: int
    """Those that have to be asked."""
    n_stored: int
    """Those whose answers are at hand."""
    most_usd: Decimal | None
    """None where a price is not known."""
    unpriced: Sequence[str] = ()
    """Models without a known price."""
    oldest: str | None = None
    """The day (UTC) of the oldest of the answers at hand whose model may be another one by now; None if none may."""

    @property
    def text(self) -> str:
        """The same in words."""
        asked = f"{self.n_questions:,} answers to ask for"
        oldest = f", the oldest of {self.oldest}" if self.oldest else ""
        stored = f", {self.n_stored:,} at hand{oldest}" if self.n_stored else ""
        if not self.n_questions:
            return f"All {self.n_stored:,} answers are at hand{oldest}."
        if self.most_usd is None:
            return f"{asked}{stored}; what {self.unpriced[0]} costs is not known."
        return f"{asked}{stored}; at most ${self.most_usd:.4f}." if self.most_usd else f"{asked}{stored}."

    def check_budget(self, max_cost_usd: Decimal | float | str) -> None:
        """Refuse what would cost more.

        Raises:
            BudgetError: It may cost more, nobody knows what it costs, or this is no amount in dollars.
        """
        limit = amount(max_cost_usd)
        if not self.n_questions:
            return
        if self.most_usd is None:
            raise BudgetError(
                f"The price of {self.unpriced[0]} is not known, so the evaluation cannot be kept under ${limit}. "
                "Leave the limit away to evaluate all the same."
            )
        if self.most_usd > limit:
            raise BudgetError(
                f"The evaluation may cost up to ${self.most_usd:.4f}, more than the limit of ${limit}. Take fewer "
                "examples or models, or a smaller max_tokens."
            )


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One question to one model, as it is billed at most."""

    model: str
    prompt_tokens: int
    answer_tokens: int


def spending(
    host: Host, asked: Sequence[Asked], *, n_stored: int, oldest: str | None = None, book: PriceBook | None = None
) -> Spending:
    """Return what these questions cost at most; nothing at servers of one's own."""
    prices = {model: _price(host, model, book) for model in dict.fromkeys(each.model for each in asked)}
    unpriced = [model for model, price in prices.items() if price is None]
    most = Decimal(0)
    for each in asked:
        most += _cost(prices[each.model], each.prompt_tokens, each.answer_tokens) or Decimal(0)
    return Spending(
        n_questions=len(asked),
        n_stored=n_stored,
        most_usd=None if unpriced else most,
        unpriced=unpriced,
        oldest=oldest,
    )


def cost_of(host: Host, model: str, answers: Sequence[Answer], *, book: PriceBook | None = None) -> Decimal | None:
    """Return what answers cost by the host's own count; None where its prices or its counts are not known."""
    if host.is_local:
        return Decimal(0)
    price = _price(host, model, book)
    costs = [_cost(price, each.prompt_tokens, each.answer_tokens) for each in answers if each.error is None]
    return None if any(cost is None for cost in costs) else sum((cost for cost in costs if cost), Decimal(0))


def prompt_tokens(model: str, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()) -> int:
    """Return how many tokens a question has, by the model's own encoding where there is one."""
    from ftclient.data.text_counter import text_counter

    name = encoding_for(model) or DEFAULT_ENCODING
    counter = text_counter(name)
    example = {"messages": list(messages), **({"tools": list(tools)} if tools else {})}
    if counter is None:
        return len(json.dumps(example, ensure_ascii=False, default=str).encode()) // _BYTES_A_TOKEN
    parts = parts_of(example, method="supervised", encoding_name=name)
    return sum(counter.count(parts.texts)) + parts.fixed_tokens


def beginning(model: str, text: str, *, most_tokens: int) -> str:
    """Return as much of a text as takes no more tokens as a string in JSON; all of it where nobody can count them."""
    from ftclient.data.text_counter import text_counter

    if len(json.dumps(text, ensure_ascii=False).encode(errors="surrogatepass")) <= most_tokens:
        return text  # a token is a byte at least
    counter = text_counter(encoding_for(model) or DEFAULT_ENCODING)
    if counter is None:
        return text

    def fits(n_chars: int) -> bool:
        return sum(counter.count([json.dumps(text[:n_chars], ensure_ascii=False)])) <= most_tokens

    return text if fits(len(text)) else text[: _last_true(fits, len(text))]


def _last_true(holds: Callable[[int], bool], end: int) -> int:
    """The last number below `end` for which something holds that holds for 0 and, from some number on, no more."""
    low, high = 0, end
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _price(host: Host, model: str, book: PriceBook | None) -> tuple[Decimal, Decimal] | None:
    """What a million tokens of prompt and of answer take; tuned models have rates of their own."""
    if host.is_local:
        return Decimal(0), Decimal(0)
    found = model_prices(host, model, book=book)
    if found is None:
        return None
    rates = found.tuned if model.startswith("ft:") else found.base
    return None if rates.input is None or rates.output is None else (rates.input, rates.output)


def _cost(price: tuple[Decimal, Decimal] | None, n_prompt: int | None, n_answer: int | None) -> Decimal | None:
    if price is None or n_prompt is None or n_answer is None:
        return None
    return (price[0] * n_prompt + price[1] * n_answer) / _MILLION
