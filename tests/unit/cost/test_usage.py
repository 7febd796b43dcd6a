"""What using a tuned model costs, and when it pays: the arithmetic, worked out by hand."""

from __future__ import annotations

from decimal import Decimal

import pytest

from ftclient.cost.book import Hosting, ModelPrices, TokenRates, Training
from ftclient.cost.tokens import Tokens
from ftclient.cost.usage import Traffic, local_use, traffic_of, use_of

TUNED = TokenRates(input=Decimal(2), cached_input=Decimal("0.5"), output=Decimal(8))
BASE = TokenRates(input=Decimal(1), cached_input=Decimal("0.25"), output=Decimal(4))


def prices(*, hourly: str = "0", tuned: TokenRates = TUNED, base: TokenRates = BASE) -> ModelPrices:
    return ModelPrices(tuned=tuned, base=base, hosting=Hosting(usd_per_hour=Decimal(hourly)))


def test_a_month_is_calls_times_tokens_times_rates() -> None:
    traffic = Traffic(calls_per_day=1000, prompt_tokens=100, answer_tokens=10, shots=8, shot_tokens=100)
    use = use_of(prices(), traffic, training_usd=Decimal(3))
    assert use.tuned_usd_per_call == Decimal("0.00028")  # 100 x $2 and 10 x $8, a million
    assert use.base_usd_per_call == Decimal("0.00094")  # 900 x $1 and 10 x $4
    assert use.tuned_usd_per_month == Decimal("8.4")
    assert use.base_usd_per_month == Decimal("28.2")
    assert use.break_even_days == 5  # $3 at $0.66 a day is 4.54 days
    assert use.break_even_calls == 4546
    assert use.verdict() == "Training has paid for itself after 5 days, or 4,546 calls."


def test_what_ends_before_it_pays_never_pays() -> None:
    traffic = Traffic(calls_per_day=1000, prompt_tokens=100, answer_tokens=10, shots=8, shot_tokens=100)
    use = use_of(prices(), traffic, training_usd=Decimal(3), days_left=4)
    assert use.verdict().startswith("It never pays: training would have paid for itself after 5 days")
    assert "the model ends in 4 days" in use.verdict()
    assert "has paid" in use_of(prices(), traffic, training_usd=Decimal(3), days_left=5).verdict()


def test_a_long_common_start_is_charged_as_cached_on_both_sides() -> None:
    """1,100 common tokens are cached as 1,024: in steps of 128, and only from 1,024 on."""
    traffic = Traffic(calls_per_day=1, prompt_tokens=1200, answer_tokens=0, shared_tokens=1100)
    use = use_of(prices(), traffic, training_usd=Decimal(0))
    assert use.tuned_usd_per_call == (Decimal(2) * 176 + Decimal("0.5") * 1024) / 1_000_000
    short = Traffic(calls_per_day=1, prompt_tokens=1200, answer_tokens=0, shared_tokens=1000)
    assert use_of(prices(), short, training_usd=Decimal(0)).tuned_usd_per_call == Decimal("0.0024")
    no_cache = prices(tuned=TokenRates(input=Decimal(2), output=Decimal(8)))
    assert use_of(no_cache, traffic, training_usd=Decimal(0)).tuned_usd_per_call == Decimal("0.0024")


def test_hosting_is_paid_around_the_clock_and_says_how_many_calls_earn_it_back() -> None:
    traffic = Traffic(calls_per_day=1000, prompt_tokens=100, answer_tokens=10, shots=8, shot_tokens=100)
    use = use_of(prices(hourly="1.70"), traffic, training_usd=Decimal(3))
    assert use.hosting_usd_per_month == Decimal(1224)
    assert use.tuned_usd_per_month == Decimal("1232.4")
    assert use.break_even_days is None
    assert use.paying_calls_per_day == 61_819  # $40.80 a day at $0.00066 a call
    assert "above 61,819 calls a day" in use.verdict()


def test_without_examples_in_the_prompt_a_dearer_model_never_pays() -> None:
    use = use_of(prices(), Traffic(calls_per_day=10, prompt_tokens=100, answer_tokens=10), training_usd=Decimal(3))
    assert use.break_even_days is None
    assert use.break_even_calls is None
    assert use.verdict().startswith("It never pays by its price alone: a call of the untuned model, as it is")


def test_what_is_not_known_is_null_with_its_reason() -> None:
    unknown = ModelPrices(training=Training(unknown="The price is secret."))
    use = use_of(unknown, Traffic(calls_per_day=10, prompt_tokens=1, answer_tokens=1), training_usd=None)
    found = use.to_json()
    assert found["tuned_usd_per_month"] is None
    assert found["hosting_usd_per_month"] is None
    assert "The price is secret." in found["verdict"]
    assert "hosting" in found["verdict"]


def test_batches_have_rates_of_their_own() -> None:
    rates = TokenRates(input=Decimal(2), output=Decimal(8), batch_input=Decimal(1), batch_output=Decimal(4))
    traffic = Traffic(calls_per_day=1, prompt_tokens=100, answer_tokens=10, in_batches=True)
    use = use_of(prices(tuned=rates), traffic, training_usd=Decimal(0))
    assert use.tuned_usd_per_call == Decimal("0.00014")
    assert use.base_usd_per_call is None
    assert "batch API" in use.verdict()


def test_lengths_come_from_the_dataset_unless_they_are_given() -> None:
    tokens = Tokens(per_epoch=1005, loss_per_epoch=201, system_per_epoch=500)
    assert traffic_of(tokens, 10, calls_per_day=7, shots=2) == Traffic(
        calls_per_day=7, prompt_tokens=81, answer_tokens=21, shared_tokens=50, shots=2, shot_tokens=51
    )
    given = traffic_of(tokens, 10, calls_per_day=7, prompt_tokens=20, answer_tokens=3)
    assert (given.prompt_tokens, given.answer_tokens, given.shared_tokens) == (20, 3, 20)
    with pytest.raises(ValueError, match="calls_per_day is -1"):
        traffic_of(tokens, 10, calls_per_day=-1)


def test_no_calls_and_no_charge_are_answers_too() -> None:
    idle = Traffic(calls_per_day=0, prompt_tokens=100, answer_tokens=10, shots=8, shot_tokens=100)
    assert use_of(prices(), idle, training_usd=Decimal(3)).break_even_days is None
    assert local_use(idle).verdict() == "Nobody charges for it."


def test_a_batch_rate_that_only_one_side_has_is_no_saving() -> None:
    """OpenAI lists the batch rate of cached tokens for tuned models alone: both sides are charged the plain rate."""
    plain = TokenRates(input=Decimal(2), output=Decimal(8), batch_input=Decimal(1), batch_output=Decimal(4))
    cached = plain.model_copy(update={"batch_cached_input": Decimal("0.25")})
    traffic = Traffic(calls_per_day=1, prompt_tokens=1024, answer_tokens=0, shared_tokens=1024, in_batches=True)
    one = use_of(prices(tuned=cached, base=plain), traffic, training_usd=Decimal(0))
    assert one.tuned_usd_per_call == one.base_usd_per_call == Decimal("0.001024")
    both = use_of(prices(tuned=cached, base=cached), traffic, training_usd=Decimal(0))
    assert both.tuned_usd_per_call == both.base_usd_per_call == Decimal("0.000256")


def test_no_calls_save_nothing_and_nothing_is_said_to_eat_it() -> None:
    traffic = Traffic(calls_per_day=0, prompt_tokens=100, answer_tokens=10, shots=8, shot_tokens=100)
    assert use_of(prices(), traffic, training_usd=Decimal(3)).verdict() == "With no calls there is nothing to save."
    assert "above 61,819 calls a day" in use_of(prices(hourly="1.70"), traffic, training_usd=Decimal(3)).verdict()
