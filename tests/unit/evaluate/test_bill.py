"""What graders that ask models cost at most, before the answers that they grade are known."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from ftclient import BudgetError, Dataset
from ftclient.evaluate.spending import prompt_tokens

ASKED, OTHER, GRADES = "gpt-4.1-nano", "gpt-4.1-mini", "gpt-4.1"
N, LONGEST = 10, 1_000
GRADE_USD = Decimal(2) / 1_000_000
"""A token of a prompt to the model that grades (this package's book)."""


def data(n: int = N) -> Dataset:
    return Dataset(
        {"messages": [{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": f"text {i}"}]}
        for i in range(n)
    )


def grader(template: str) -> dict:
    params = {"max_completions_tokens": 10}
    message = {"role": "user", "content": template}
    return {"type": "score_model", "name": "g", "model": GRADES, "input": [message], "sampling_params": params}


def bill_of(client, template: str):
    bills = []
    with pytest.raises(BudgetError):
        client.evaluate(
            data(),
            models=[ASKED],
            grader=grader(template),
            max_tokens=LONGEST,
            max_cost_usd="0.0001",
            announce=bills.append,
        )
    return bills[0]


@pytest.mark.parametrize(
    "place", ["sample.output_json.a[1]", "sample.output_tools[0].function.name", "sample.choices[0].message.content"]
)
def test_a_grader_of_a_part_of_the_answer_is_in_the_bill_before_there_is_one(hosted, chat_host, place):
    whole, part = (bill_of(hosted, f"Grade {{{{ {name} }}}}") for name in ("sample.output_text", place))
    assert part.n_questions == whole.n_questions == 2 * N
    assert part.most_usd >= whole.most_usd
    assert chat_host.asked == []


def test_every_place_of_the_answer_in_a_graders_template_is_in_the_bill(hosted):
    none = bill_of(hosted, "Grade {{ item.reference_answer }}").most_usd
    for n in (1, 2, 3):
        more = bill_of(hosted, "Grade {{ item.reference_answer }}" + " {{ sample.output_text }}" * n).most_usd - none
        assert more >= n * N * LONGEST * GRADE_USD


def test_a_grader_whose_example_lacks_a_field_asks_nothing(hosted):
    assert bill_of(hosted, "{{ item.missing }} {{ sample.output_text }}").n_questions == N


def test_the_bill_of_answers_at_hand_is_for_what_they_say(hosted, chat_host):
    """Those that are no JSON are not graded."""
    chat_host.reply = lambda _: "no JSON"
    hosted.evaluate(data(), models=[ASKED], max_tokens=LONGEST)
    bills = []
    wishes = {"models": [ASKED], "max_tokens": LONGEST, "max_cost_usd": 0, "announce": bills.append}
    with pytest.raises(BudgetError):
        hosted.evaluate(data(), grader=grader("{{ sample.output_text }}"), **wishes)
    hosted.evaluate(data(), grader=grader("{{ sample.output_json.a }}"), **wishes)
    assert [bill.n_questions for bill in bills] == [N, 0]


QUOTES = '{"a": "b", "c": ["d\\n", "e"]}\n' * 40
BREAKS = "It ends:" + "\n" * 2_000
JSON = '{"a":[' + ",".join(f'{{"b":"{i}","c":[{i},null]}}' for i in range(60)) + "]}"
CALLS = {"content": "Let me see.", "tool_calls": []}
for number in range(12):
    function = {"name": "weather", "arguments": f'{{"city": "Tokyo", "day": {number}}}'}
    CALLS["tool_calls"].append({"id": f"call_{number}", "type": "function", "function": function})


def tokens_of(reply) -> int:
    """How many tokens an answer has that fills its room."""
    parts = [part["function"] for part in reply["tool_calls"]] if isinstance(reply, dict) else []
    texts = [text for part in parts for text in (part["name"], part["arguments"])]
    said = reply["content"] if isinstance(reply, dict) else reply
    return sum(prompt_tokens(ASKED, [{"role": "assistant", "content": text}]) for text in [said, *texts])


def said_in(body) -> list[dict]:
    """All that the model reads: the schema of its answer is put before it, too."""
    form = body.get("response_format")
    return [*body["messages"], *([{"role": "system", "content": json.dumps(form)}] if form else [])]


@pytest.mark.parametrize(
    ("reply", "wishes"),
    [
        (QUOTES, {"grader": grader("{{ item.reference_answer }} {{ sample.output_text }}\n{{ sample.output_text }}")}),
        (QUOTES, {"grader": grader("{{ item.reference_answer }} {{ sample.choices }}")}),
        (JSON, {"grader": grader("{{ item.reference_answer }} {{ sample.output_json }} {{ sample.output_json.a }}")}),
        (CALLS, {"grader": grader("{{ item.reference_answer }} {{ sample.output_tools }} or {{ sample.choices }}")}),
        ("text", {"grader": grader("{{ item.reference_answer }} {{ sample.output_text }}")}),
        (QUOTES, {"judge": GRADES}),
        (BREAKS, {"judge": GRADES}),
    ],
)
def test_what_is_asked_about_answers_as_long_as_may_be_is_no_more_than_the_bill(hosted, chat_host, reply, wishes):
    differs = {ASKED: "", OTHER: " "}  # or there is nothing to judge
    said = {"content": reply} if isinstance(reply, str) else reply
    chat_host.reply = lambda body: (
        {**said, "content": differs[body["model"]] + said["content"]} if body["model"] in differs else '{"result": 1} A'
    )
    bills, longest = [], tokens_of(reply) + 1
    rest = {"models": list(differs), "max_tokens": longest, "announce": bills.append}
    hosted.evaluate(data(), max_cost_usd="9", **rest, **wishes)
    hosted.evaluate(data(), max_cost_usd="9", fresh=True, **rest)
    prompts = [prompt_tokens(GRADES, said_in(body)) for body in chat_host.asked if body["model"] == GRADES]
    assert len(prompts) >= N
    assert sum(prompts) * GRADE_USD <= bills[0].most_usd - bills[1].most_usd


def test_answers_that_are_no_longer_than_counted_are_shown_to_the_judge_as_they_are(hosted, chat_host):
    said = {ASKED: QUOTES, OTHER: QUOTES + "end"}
    chat_host.reply = lambda body: said.get(body["model"], "A")
    hosted.evaluate(data(1), models=[ASKED, OTHER], judge=GRADES, max_tokens=tokens_of(said[OTHER]))
    shown = [json.loads(body["messages"][-1]["content"]) for body in chat_host.asked if body["model"] == GRADES]
    assert {(each["A"], each["B"]) for each in shown} == {(QUOTES, said[OTHER]), (said[OTHER], QUOTES)}
