"""Models that reason before they answer have room for it, and are told of where it was not enough."""

from __future__ import annotations

from decimal import Decimal

import pytest

from ftclient import BudgetError, Client, Dataset, hosts
from ftclient.evaluate import reasoning
from tests.unit.evaluate.conftest import refusal

PLAIN, REASONER = "gpt-4.1", "o4-mini"
LABELS = ("complaint", "praise")
N = 20
USD = Decimal("4.40") / 1_000_000
"""A token of an answer of the model that reasons (this package's book)."""


def data() -> Dataset:
    return Dataset(
        {"messages": [{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": LABELS[i % 2]}]}
        for i in range(N)
    )


def host(n_thoughts: int):
    """Models that answer rightly; all but the plain one reason first, and take no other options than such models do."""

    def reply(body):
        right = LABELS[int(body["messages"][0]["content"][1:]) % 2]
        if body["model"] == PLAIN:
            return right
        unfit = next((name for name in ("max_tokens", "temperature") if name in body), None)
        if unfit:
            return 400, refusal("Unsupported.", code="unsupported_parameter", param=unfit)
        if body["max_completion_tokens"] <= n_thoughts:
            return {"content": "", "finish_reason": "length"}
        return right

    return reply


def accuracies(found) -> list[float]:
    return [score.figures["accuracy"].value for score in found.scores]


def test_a_model_that_reasons_has_room_for_it_and_the_bill_says_so(hosted, chat_host):
    chat_host.reply, bills = host(1_000), []
    found = hosted.evaluate(data(), models=[PLAIN, REASONER], announce=bills.append)
    assert accuracies(found) == [1.0, 1.0]
    assert found.notes == []
    (longest,) = {body["max_completion_tokens"] for body in chat_host.asked if "max_completion_tokens" in body}
    assert bills[0].most_usd > N * longest * USD
    n_asked = len(chat_host.asked)
    assert accuracies(hosted.evaluate(data(), models=[PLAIN, REASONER])) == [1.0, 1.0]
    assert len(chat_host.asked) == n_asked


def test_whoever_says_how_long_answers_may_be_is_obeyed_and_told_what_came_of_it(hosted, chat_host):
    chat_host.reply = host(1_000)
    found = hosted.evaluate(data(), models=[PLAIN, REASONER], max_tokens=30)
    assert accuracies(found) == [1.0, 0.0]
    (note,) = found.notes
    assert note.startswith(f"{REASONER}: {N} of {N} answers were cut off before they began")
    assert "max_tokens" in note
    assert {body.get("max_completion_tokens", 30) for body in chat_host.asked} == {30}
    more = hosted.evaluate(data(), models=[PLAIN, REASONER])  # the answers that were cut off are not taken for these
    assert accuracies(more) == [1.0, 1.0]


def test_reasoning_beyond_all_room_is_told(hosted, chat_host):
    chat_host.reply = host(1_000_000)
    (note,) = hosted.evaluate(data(), models=[PLAIN, REASONER]).notes
    assert "cut off before they began" in note


def test_a_model_whose_name_does_not_say_that_it_reasons_has_the_room_where_no_limit_is_set(chat_host, tmp_path):
    chat_host.reply = host(1_000)
    book = tmp_path / "prices.json"
    book.write_text('{"format": 2, "hosts": {"azure": {"models": {"mine": {"base": {"input": "1", "output": "1"}}}}}}')
    from ftclient.cost.book import PriceBook

    wishes = {"models": ["mine"], "prices": PriceBook.read(book)}
    with Client.at(chat_host.url, host=hosts.AZURE, home=tmp_path / "home", api_key="sk-none") as client:
        assert accuracies(client.evaluate(data(), **wishes)) == [1.0]
        chat_host.asked.clear()
        found = client.evaluate(data(), max_cost_usd="0.01", fresh=True, **wishes)
        assert max(body.get("max_completion_tokens", 0) for body in chat_host.asked) < reasoning.TOKENS
        assert "cut off before they began" in found.notes[0]


def test_the_room_is_in_what_a_limit_is_compared_to(hosted):
    with pytest.raises(BudgetError):
        hosted.evaluate(data(), models=[REASONER], max_cost_usd="0.02")
    hosted.evaluate(data(), models=[REASONER], max_tokens=30, max_cost_usd="0.02")


def test_a_grader_that_reasons_has_room_unless_it_says_how_much(hosted, chat_host):
    chat_host.reply = lambda body: '{"result": 1}' if "response_format" in body else "x"
    grader = {"type": "score_model", "name": "g", "input": [{"role": "user", "content": "{{ item.reference_answer }}"}]}
    for model, params in ((PLAIN, {}), (REASONER, {}), (REASONER, {"max_completions_tokens": 50})):
        hosted.evaluate(data(), models=[PLAIN], grader={**grader, "model": model, "sampling_params": params})
    longest = [body["max_completion_tokens"] for body in chat_host.asked if "response_format" in body]
    assert sorted(set(longest)) == [50, 1_024, 1_024 + reasoning.TOKENS]


@pytest.mark.parametrize(
    ("model", "reasons"),
    [
        *((name, True) for name in ("o1", "o3-mini", "o4-mini-2025-04-16", "gpt-5", "gpt-5.1-mini", "ft:o4-mini:a::b")),
        *((name, False) for name in ("gpt-4o", "gpt-4.1", "ft:gpt-4.1:o3::b", "olmo", "smollm2-135m", "my-o3")),
        *((name, False) for name in ("gpt-5-chat-latest", "gpt-5.1-chat-latest", "ft:gpt-5-chat-latest:a::b")),
    ],
)
def test_openais_names_say_which_models_reason(model, reasons):
    assert reasoning.is_known(model) is reasons
