"""What a judge says is read as it is meant, and where it says nothing that is no silent tie."""

from __future__ import annotations

import json

import pytest

from ftclient import Dataset, FtclientError
from ftclient.evaluate import judge
from tests.unit.evaluate.conftest import refusal

FIRST, OTHER, JUDGE = "gpt-4.1-mini", "gpt-4.1", "o4-mini"


def data(n: int) -> Dataset:
    return Dataset(
        {
            "messages": [
                {"role": "user", "content": f"Tell me of {i}"},
                {"role": "assistant", "content": f"Some free text about {i}"},
            ]
        }
        for i in range(n)
    )


def judged(client, chat_host, n: int, say):
    """The preferences of a judge who answers as `say` does, told the prompt."""
    chat_host.reply = lambda body: say(body) if body["model"] == JUDGE else f"I am {body['model']}"
    found = client.evaluate(data(n), models=[FIRST, OTHER], judge=JUDGE)
    values = next(each.values for each in found.measured if each.metric.name == "preferred")
    return values[OTHER], found.notes


def prefers_other(body) -> str:
    return "A" if json.loads(body["messages"][-1]["content"])["A"] == f"I am {OTHER}" else "B"


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ("A", "A"),
        (" b.", "B"),
        ('"B"', "B"),
        ("**A**", "A"),
        ("Tie", "tie"),
        ("It is a tie.", "tie"),
        ("B is a better answer", "B"),
        ("Answer A", "A"),
        ("A tie", "tie"),
        ("Both", "tie"),
        ("Neither.", "tie"),
        ("both are equal", "tie"),
        ("A or B", None),
        ("A, though it is nearly a tie", None),
        ("a good question", None),
        ("", None),
        ("I cannot say", None),
    ],
)
def test_a_verdict_is_one_of_three_words(said, verdict):
    assert judge.verdict_in(said) == verdict


def test_a_judge_that_reasons_has_room_for_it(hosted, chat_host):
    def say(body):
        if "max_tokens" in body:
            return 400, refusal("Unsupported.", code="unsupported_parameter", param="max_tokens")
        return (
            prefers_other(body) if body["max_completion_tokens"] > 500 else {"content": "", "finish_reason": "length"}
        )

    assert judged(hosted, chat_host, 4, say) == ([1.0] * 4, [])


NO_VERDICTS = [
    ((400, refusal("It is too long.", code="context_length_exceeded")), "It is too long"),
    ({"content": "", "finish_reason": "length"}, "it was cut off before it said anything"),
    ({"content": "", "finish_reason": "content_filter"}, "it refused"),
    ("I cannot say", "it said 'I cannot say'"),
]


@pytest.mark.parametrize(("reply", "why"), NO_VERDICTS)
def test_pairs_without_a_verdict_are_counted_and_told(hosted, chat_host, reply, why):
    values, (note,) = judged(
        hosted, chat_host, 4, lambda body: reply if "of 2" in body["messages"][-1]["content"] else prefers_other(body)
    )
    assert values == [1.0, 1.0, 0.5, 1.0]
    assert note.startswith(f"{OTHER}: the judge {JUDGE} gave no verdict on 1 of 4 pairs of answers")
    assert why in note


@pytest.mark.parametrize(("reply", "why"), NO_VERDICTS)
def test_a_judge_without_any_verdict_fails_the_evaluation(hosted, chat_host, reply, why):
    with pytest.raises(FtclientError, match=f"judge {JUDGE} gave no verdict on any of 10 pairs.*kept") as raised:
        judged(hosted, chat_host, 10, lambda _: reply)
    assert why in str(raised.value)


@pytest.mark.parametrize(("reply", "why"), NO_VERDICTS)
def test_without_a_verdict_on_the_few_pairs_that_differ_only_the_judges_figure_is_left_out(
    hosted, chat_host, reply, why
):
    def say(body):
        if body["model"] == JUDGE:
            return reply
        return f"I am {body['model']}" if body["messages"][0]["content"] == "Tell me of 7" else "the same"

    chat_host.reply = say
    for _ in range(2):
        found = hosted.evaluate(data(20), models=[FIRST, OTHER], judge=JUDGE)
        assert "preferred" not in [each.metric.name for each in found.measured]
        (note,) = found.notes
        assert note.startswith(f"the judge {JUDGE} gave no verdict on any of the pairs of answers that differ (1)")
        assert why in note


def test_where_all_answers_are_alike_there_is_nothing_to_judge(hosted, chat_host):
    chat_host.reply = lambda _: "the same"
    found = hosted.evaluate(data(3), models=[FIRST, OTHER], judge=JUDGE)
    assert (found.notes, chat_host.n_asked(JUDGE)) == ([], 0)
