"""Break-even and merged price books, for any amounts."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from ftclient.cost.book import Hosting, HostPrices, ModelPrices, PriceBook, Source, TokenRates, Training
from ftclient.cost.usage import Traffic, use_of

amounts = st.decimals(min_value=0, max_value=1000, places=4)
rates = st.builds(TokenRates, input=amounts, cached_input=st.none() | amounts, output=amounts)
traffics = st.builds(
    Traffic,
    calls_per_day=st.integers(0, 10**6),
    prompt_tokens=st.integers(1, 10**5),
    answer_tokens=st.integers(0, 10**4),
    shared_tokens=st.just(0),
    shots=st.integers(0, 50),
    shot_tokens=st.integers(0, 2000),
)


@given(tuned=rates, base=rates, hourly=amounts, traffic=traffics, training=amounts)
def test_after_the_break_even_less_has_been_paid_and_the_day_before_it_not(
    tuned: TokenRates, base: TokenRates, hourly: Decimal, traffic: Traffic, training: Decimal
) -> None:
    prices = ModelPrices(tuned=tuned, base=base, hosting=Hosting(usd_per_hour=hourly))
    use = use_of(prices, traffic, training_usd=training)
    tuned_day, base_day = use.tuned_usd_per_month / 30, use.base_usd_per_month / 30
    days = use.break_even_days
    if days is None:
        assert base_day <= tuned_day
        return
    slack = Decimal("1e-15")  # a thirtieth is rounded at 28 digits
    assert training + tuned_day * days <= base_day * days + slack
    assert days == 0 or training + tuned_day * (days - 1) >= base_day * (days - 1) - slack


@given(tuned=rates, base=rates, hourly=amounts, traffic=traffics)
def test_above_the_paying_number_of_calls_a_day_is_never_dearer(
    tuned: TokenRates, base: TokenRates, hourly: Decimal, traffic: Traffic
) -> None:
    use = use_of(ModelPrices(tuned=tuned, base=base, hosting=Hosting(usd_per_hour=hourly)), traffic, training_usd=None)
    calls = use.paying_calls_per_day
    if calls is None:
        assert use.base_usd_per_call <= use.tuned_usd_per_call
    else:
        assert use.base_usd_per_call * calls >= use.tuned_usd_per_call * calls + hourly * 24 - Decimal("1e-15")


names = st.sampled_from(["a", "b", "c"])
books = st.builds(
    PriceBook,
    format=st.just(2),
    hosts=st.dictionaries(
        names,
        st.builds(
            HostPrices,
            models=st.dictionaries(
                names, st.builds(ModelPrices, training=st.builds(Training, usd_per_million_tokens=amounts)), max_size=3
            ),
        ),
        max_size=3,
    ),
)


@given(below=books, above=books)
def test_a_book_over_another_wins_and_takes_nothing_else_away(below: PriceBook, above: PriceBook) -> None:
    merged = below.with_prices(above, source=Source(url="mine", as_of="2026-11-24"))
    for name in {*below.hosts, *above.hosts}:
        before, own, after = (book.host(name).models for book in (below, above, merged))
        assert set(after) == {*before, *own}
        for model, prices in after.items():
            expected = own.get(model) or before[model]
            assert prices.training.usd_per_million_tokens == expected.training.usd_per_million_tokens
            assert (prices.training.source == "mine") == (model in own)
