"""What a tuned model costs in use, and whether it pays against the untuned one with examples in its prompt."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Any

from ftclient.cost.book import ModelPrices, TokenRates, to_text
from ftclient.cost.prices import MILLION
from ftclient.cost.tokens import Tokens
from ftclient.data.counted import counted

DAYS_PER_MONTH = 30
HOURS_PER_DAY = 24
CACHED_FROM_TOKENS = 1024
CACHED_STEP_TOKENS = 128
"""OpenAI's guide to prompt caching: prompts that begin alike are cached from 1,024 tokens on, in steps of 128."""


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """How a model will be used. Tokens are those of one call."""

    calls_per_day: int
    prompt_tokens: int
    """Of the tuned model's prompt; the untuned one gets the `shots` too."""
    answer_tokens: int
    shared_tokens: int = 0
    """The start of the prompt that is the same in all calls: the system prompt."""
    shots: int = 0
    """Examples that the untuned model is shown in its prompt, to do as well."""
    shot_tokens: int = 0
    """Tokens of one of them."""
    in_batches: bool = False
    """Asked through the batch API, at its rates."""

    @property
    def base_prompt_tokens(self) -> int:
        """Tokens of the untuned model's prompt."""
        return self.prompt_tokens + self.shots * self.shot_tokens

    @property
    def base_shared_tokens(self) -> int:
        """The start of that prompt that is the same in all calls."""
        return self.shared_tokens + self.shots * self.shot_tokens


def traffic_of(
    tokens: Tokens,
    n_examples: int,
    *,
    calls_per_day: int,
    prompt_tokens: int | None = None,
    answer_tokens: int | None = None,
    shots: int = 0,
    in_batches: bool = False,
) -> Traffic:
    """Return the use of a model on calls like the examples of a dataset.

    Args:
        tokens: Those of the dataset; their means stand in for what is not given.
        n_examples: How many examples they are of.
        calls_per_day: Calls a day.
        prompt_tokens: Tokens of a prompt; None is what an example has beside its answer.
        answer_tokens: Tokens of an answer; None is what an example trains.
        shots: Examples that the untuned model is shown in its prompt.
        in_batches: Use the rates of the batch API.

    Raises:
        ValueError: A number is below 0.
    """
    for name, value in (("calls_per_day", calls_per_day), ("shots", shots)):
        if value < 0:
            raise ValueError(f"{name} is {value}; it cannot be less than 0")
    n = max(1, n_examples)
    prompt = math.ceil((tokens.per_epoch - tokens.loss_per_epoch) / n) if prompt_tokens is None else prompt_tokens
    answer = math.ceil(tokens.loss_per_epoch / n) if answer_tokens is None else answer_tokens
    return Traffic(
        calls_per_day=calls_per_day,
        prompt_tokens=prompt,
        answer_tokens=answer,
        shared_tokens=min(prompt, tokens.system_per_epoch // n),
        shots=shots,
        shot_tokens=math.ceil((tokens.per_epoch - tokens.system_per_epoch) / n),
        in_batches=in_batches,
    )


@dataclass(frozen=True, kw_only=True)
class Use:
    """What a tuned model costs in use. Amounts are dollars; None is unknown, for the reason that `unknown` names."""

    traffic: Traffic
    training_usd: Decimal | None
    tuned_usd_per_call: Decimal | None
    base_usd_per_call: Decimal | None
    """The untuned model's, with the examples in its prompt."""
    hosting_usd_per_day: Decimal | None
    unknown: tuple[str, ...] = ()
    days_left: int | None = None
    """Days until the host shuts the model down; None where no day is known."""

    @property
    def hosting_usd_per_month(self) -> Decimal | None:
        """What the tuned model costs while nobody asks it."""
        return None if self.hosting_usd_per_day is None else self.hosting_usd_per_day * DAYS_PER_MONTH

    @property
    def tuned_usd_per_month(self) -> Decimal | None:
        """Calls and hosting of 30 days."""
        if self.tuned_usd_per_call is None or self.hosting_usd_per_month is None:
            return None
        return self.tuned_usd_per_call * self.calls_per_month + self.hosting_usd_per_month

    @property
    def base_usd_per_month(self) -> Decimal | None:
        """The untuned model's calls of 30 days."""
        return None if self.base_usd_per_call is None else self.base_usd_per_call * self.calls_per_month

    @property
    def calls_per_month(self) -> int:
        """Calls of 30 days."""
        return self.traffic.calls_per_day * DAYS_PER_MONTH

    @property
    def saved_usd_per_day(self) -> Decimal | None:
        """What a day is cheaper than with the untuned model; below 0 it is dearer."""
        if self.tuned_usd_per_month is None or self.base_usd_per_month is None:
            return None
        return (self.base_usd_per_month - self.tuned_usd_per_month) / DAYS_PER_MONTH

    @property
    def break_even_days(self) -> int | None:
        """Days after which training has paid for itself; None if never, or if that is not known."""
        saved = self.saved_usd_per_day
        if saved is None or self.training_usd is None or saved <= 0:
            return None
        return int((self.training_usd / saved).to_integral_value(ROUND_CEILING))

    @property
    def break_even_calls(self) -> int | None:
        """Calls after which training has paid for itself."""
        days = self.break_even_days
        if days is None or self.training_usd is None or self.saved_usd_per_day is None:
            return None
        calls = self.training_usd / self.saved_usd_per_day * self.traffic.calls_per_day
        return int(calls.to_integral_value(ROUND_CEILING))

    @property
    def paying_calls_per_day(self) -> int | None:
        """Calls a day above which hosting is earned back; None if no number of calls does that, or it is not known."""
        if self.tuned_usd_per_call is None or self.base_usd_per_call is None or self.hosting_usd_per_day is None:
            return None
        saved = self.base_usd_per_call - self.tuned_usd_per_call
        return int((self.hosting_usd_per_day / saved).to_integral_value(ROUND_CEILING)) if saved > 0 else None

    def verdict(self) -> str:
        """Whether tuning pays, in a sentence."""
        if self.training_usd == 0 and self.tuned_usd_per_month == 0:
            return "Nobody charges for it."
        if self.traffic.calls_per_day == 0 and not self.hosting_usd_per_month:
            return "With no calls there is nothing to save."
        if self.saved_usd_per_day is None or self.training_usd is None:
            return " ".join(["Whether it pays is not known.", *self.unknown])
        if self.break_even_days is not None and self.break_even_calls is not None:
            days, calls = counted(self.break_even_days, "day"), counted(self.break_even_calls, "call")
            if self.days_left is not None and self.break_even_days > self.days_left:
                end = counted(max(0, self.days_left), "day")
                return f"It never pays: training would have paid for itself after {days}, and the model ends in {end}."
            return f"Training has paid for itself after {days}, or {calls}."
        if self.paying_calls_per_day is None:
            shown = f"with {counted(self.traffic.shots, 'example')} in its prompt" if self.traffic.shots else "as it is"
            return f"It never pays by its price alone: a call of the untuned model, {shown}, costs no more."
        return f"Hosting eats what calls save; it pays above {counted(self.paying_calls_per_day, 'call')} a day."

    def to_json(self) -> dict[str, Any]:
        """The use as `ftclient plan --json` prints it; amounts are decimal strings."""
        traffic = self.traffic
        return {
            "calls_per_day": traffic.calls_per_day,
            "prompt_tokens": traffic.prompt_tokens,
            "answer_tokens": traffic.answer_tokens,
            "shots": traffic.shots,
            "base_prompt_tokens": traffic.base_prompt_tokens,
            "in_batches": traffic.in_batches,
            "tuned_usd_per_call": _text(self.tuned_usd_per_call),
            "base_usd_per_call": _text(self.base_usd_per_call),
            "hosting_usd_per_month": _text(self.hosting_usd_per_month),
            "tuned_usd_per_month": _text(self.tuned_usd_per_month),
            "base_usd_per_month": _text(self.base_usd_per_month),
            "break_even_days": self.break_even_days,
            "break_even_calls": self.break_even_calls,
            "days_left": self.days_left,
            "verdict": self.verdict(),
        }


def use_of(
    prices: ModelPrices | None, traffic: Traffic, *, training_usd: Decimal | None, days_left: int | None = None
) -> Use:
    """Return what using a tuned model costs, by the book of prices, as long as it is there."""
    prices = prices or ModelPrices()
    rates = _alike(prices.tuned, prices.base) if traffic.in_batches else (prices.tuned, prices.base)
    tuned = _per_call(rates[0], traffic.prompt_tokens, traffic.shared_tokens, traffic)
    base = _per_call(rates[1], traffic.base_prompt_tokens, traffic.base_shared_tokens, traffic)
    hourly = prices.hosting.usd_per_hour
    missing = [
        (training_usd, prices.training.unknown),
        (tuned, prices.tuned.unknown or _no_batch(traffic)),
        (base, prices.base.unknown or _no_batch(traffic)),
        (hourly, prices.hosting.unknown),
    ]
    return Use(
        traffic=traffic,
        training_usd=training_usd,
        tuned_usd_per_call=tuned,
        base_usd_per_call=base,
        hosting_usd_per_day=None if hourly is None else hourly * HOURS_PER_DAY,
        unknown=tuple(dict.fromkeys(why for value, why in missing if value is None and why)),
        days_left=days_left,
    )


def local_use(traffic: Traffic) -> Use:
    """Return what using a model on the user's own machine costs: nothing that anybody charges."""
    nothing = Decimal(0)
    return Use(
        traffic=traffic,
        training_usd=nothing,
        tuned_usd_per_call=nothing,
        base_usd_per_call=nothing,
        hosting_usd_per_day=nothing,
    )


def _alike(tuned: TokenRates, base: TokenRates) -> tuple[TokenRates, TokenRates]:
    """Return both without batch rates of cached tokens if only one has them: a gap in a list is no saving."""
    if tuned.batch_cached_input is not None and base.batch_cached_input is not None:
        return tuned, base
    plain = {"batch_cached_input": None}
    return tuned.model_copy(update=plain), base.model_copy(update=plain)


def _per_call(rates: TokenRates, prompt: int, shared: int, traffic: Traffic) -> Decimal | None:
    """Return the dollars of one call, its shared start at the rate of cached tokens where it is long enough."""
    price, cached_price, answer_price = _chosen(rates, in_batches=traffic.in_batches)
    if price is None or answer_price is None:
        return None
    is_cached = cached_price is not None and shared >= CACHED_FROM_TOKENS
    cached = shared // CACHED_STEP_TOKENS * CACHED_STEP_TOKENS if is_cached else 0
    total = price * (prompt - cached) + (cached_price or Decimal(0)) * cached + answer_price * traffic.answer_tokens
    return total / MILLION


def _chosen(rates: TokenRates, *, in_batches: bool) -> tuple[Decimal | None, Decimal | None, Decimal | None]:
    if in_batches:
        return rates.batch_input, rates.batch_cached_input, rates.batch_output
    return rates.input, rates.cached_input, rates.output


def _no_batch(traffic: Traffic) -> str | None:
    return "Not all rates of the batch API are known." if traffic.in_batches else None


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else to_text(amount)
