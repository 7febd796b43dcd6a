"""What tuned models answer is recorded whole, on past what they refuse, and compared with as it was said."""

from __future__ import annotations

import json

import pytest

from ftclient import BackendError, Dataset
from ftclient.evaluate.questions import Answer, Call
from ftclient.keep.agreement import agreement
from ftclient.keep.folder import KeepFolder
from ftclient.keep.golden import compare_with_golden, n_cut, problem_of, record
from ftclient.keep.inventory import silence_of
from ftclient.keep.prompts import prompts_of
from tests.unit.evaluate.conftest import refusal

TUNED, OTHER = "ft:gpt-4.1-mini-2025-04-14:acme::A1", "ft:smollm2-135m:acme::B2"
N = 6
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


def examples(n: int = N, **more) -> Dataset:
    return Dataset(
        {"messages": [{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": f"a{i}"}], **more}
        for i in range(n)
    )


def asked_of(body) -> str:
    return body["messages"][-1]["content"]


def calling(arguments: str) -> dict:
    call = {"id": "call_x", "type": "function", "function": {"name": "weather", "arguments": arguments}}
    return {"content": None, "tool_calls": [call], "finish_reason": "tool_calls"}


def problems(folder: KeepFolder) -> dict[str, str]:
    return {each["what"]: each["why"] for each in KeepFolder(folder.path).manifest["problems"]}


@pytest.mark.parametrize("code", ["content_filter", None])
def test_a_prompt_that_is_refused_is_kept_with_the_reason_and_the_others_go_on(hosted, chat_host, folder, code) -> None:
    def reply(body):
        return (400, refusal("The response was filtered", code=code)) if asked_of(body) == "q2" else "fine"

    chat_host.reply = reply
    folder.note_problem(silence_of(TUNED), "It did not answer.")
    prompts = prompts_of(examples())
    assert record(hosted, folder, TUNED, prompts) == N - 1
    (refused,) = folder.refused(TUNED)
    assert (refused["messages"], "The response was filtered" in refused["error"]) == (prompts[2].messages, True)
    assert list(problems(folder)) == [problem_of(TUNED)]
    assert problems(folder)[problem_of(TUNED)].startswith(f"The host refused 1 of {N} prompts: ")
    assert len([name for name in folder.manifest["files"] if name.startswith("golden/")]) == 2

    chat_host.reply, before = (lambda _: "fine now"), len(chat_host.asked)
    assert record(hosted, folder, TUNED, prompts) == N
    assert [asked_of(body) for body in chat_host.asked[before:]] == ["q2"]
    assert not list(folder.refused(TUNED))
    assert not problems(folder)
    assert len([name for name in folder.manifest["files"] if name.startswith("golden/")]) == 1


def test_a_model_that_refuses_every_prompt_does_not_answer(hosted, chat_host, folder) -> None:
    chat_host.reply = lambda _: (400, refusal("Not with this model", code=None))
    with pytest.raises(BackendError, match="Not with this model"):
        record(hosted, folder, TUNED, prompts_of(examples()))
    assert "Not with this model" in problems(folder)[problem_of(TUNED)]
    assert not list(folder.golden(TUNED))


def test_that_a_model_does_not_answer_stands_until_it_does(hosted, chat_host, folder) -> None:
    prompts = prompts_of(examples())
    record(hosted, folder, TUNED, prompts)
    chat_host.reply = lambda _: (404, refusal("It is gone", code=None))
    folder.note_problem(silence_of(TUNED), "It is gone")
    n_asked = len(chat_host.asked)
    assert record(hosted, folder, TUNED, prompts) == N
    assert len(chat_host.asked) == n_asked
    assert list(problems(folder)) == [silence_of(TUNED)]
    chat_host.reply = lambda _: "I am back"
    record(hosted, folder, TUNED, prompts_of(examples(N + 1)))
    assert not problems(folder)


def test_without_prompts_what_is_missing_stays_missing(hosted, chat_host, folder) -> None:
    missing = {problem_of(TUNED): "It is gone", silence_of(TUNED): "It is gone"}
    for what, why in missing.items():
        folder.note_problem(what, why)
    assert record(hosted, folder, TUNED, []) == 0
    assert not chat_host.asked
    assert problems(folder) == missing


def test_a_model_that_goes_in_between_is_asked_no_more_and_leaves_what_it_said(hosted, chat_host, folder) -> None:
    chat_host.reply = lambda body: "here" if asked_of(body) < "q3" else (404, refusal("It is gone", code=None))
    for _ in range(2):
        with pytest.raises(BackendError, match="It is gone"):
            record(hosted, folder, TUNED, prompts_of(examples()))
    assert len(chat_host.asked) == 5
    assert len(list(folder.golden(TUNED))) == 3
    kept = KeepFolder(folder.path)
    assert all(kept.has(name) for name in kept.manifest["files"])
    assert [name for name in kept.manifest["files"] if name.startswith("golden/")]
    assert [each["what"] for each in kept.manifest["problems"]] == [problem_of(TUNED)]


def test_models_that_reason_are_asked_as_they_can_be(hosted, chat_host, folder) -> None:
    def reply(body):
        unfit = next((name for name in ("max_tokens", "temperature") if name in body), None)
        if unfit:
            return 400, refusal("Unsupported.", code="unsupported_parameter", param=unfit)
        return "thought through"

    chat_host.reply = reply
    assert record(hosted, folder, "o4-mini-2025-04-16.ft-a1b2", prompts_of(examples(2))) == 2
    assert chat_host.asked[-1]["max_completion_tokens"] > 512


def test_answers_longer_than_usual_are_compared_to_their_end(hosted, chat_host, folder) -> None:
    words = [f"w{i}" for i in range(900)]
    chat_host.reply = lambda body: " ".join(words[: body["max_tokens"]])
    record(hosted, folder, TUNED, prompts_of(examples(2)), max_tokens=2000)
    assert compare_with_golden(hosted, folder, TUNED, OTHER).exact == 1.0


def granting(most: int, said: str, *, param: str = "max_tokens", code: str = "invalid_value"):
    """Return how a host replies that grants answers of so many tokens."""

    def reply(body):
        if body["max_tokens"] > most:
            return 400, refusal(f"At most {most} tokens.", code=code, param=param)
        return said if asked_of(body) == "q0" else "short"

    return reply


@pytest.mark.parametrize("most", [4096, 2048])
@pytest.mark.parametrize(
    ("param", "code"),
    [
        ("max_tokens", "invalid_value"),
        ("max_completion_tokens", "invalid_value"),
        ("messages", "context_length_exceeded"),
    ],
)
def test_a_copy_agrees_in_all_at_a_host_that_grants_hardly_longer_answers(
    hosted, chat_host, folder, most, param, code
) -> None:
    chat_host.reply = granting(most, "The quick brown fox. " * 250, param=param, code=code)
    record(hosted, folder, TUNED, prompts_of(examples(2)), max_tokens=2000)
    found = compare_with_golden(hosted, folder, TUNED, TUNED)
    assert (found.n, found.exact, found.similarity) == (2, 1.0, 1.0)


def test_answers_are_compared_to_their_end_with_models_that_need_a_token_for_each_byte(
    hosted, chat_host, folder
) -> None:
    text = "日本語" * 100
    chat_host.reply = lambda body: text[: body["max_tokens"] // (1 if body["model"] == TUNED else len("日".encode()))]
    record(hosted, folder, TUNED, prompts_of(examples(1)), max_tokens=len(text))
    assert compare_with_golden(hosted, folder, TUNED, OTHER).exact == 1.0


def test_a_host_that_does_not_grant_answers_as_long_as_the_golden_ones_is_no_disagreement(
    hosted, chat_host, folder
) -> None:
    chat_host.reply = granting(2000, "The quick brown fox. " * 250)
    record(hosted, folder, TUNED, prompts_of(examples(2)), max_tokens=2000)
    chat_host.reply = granting(100, "The quick brown fox. " * 250)
    with pytest.raises(BackendError, match="At most 100 tokens"):
        compare_with_golden(hosted, folder, TUNED, OTHER)


def test_answers_that_used_the_room_to_reason_are_compared_to_their_end(hosted, chat_host, folder) -> None:
    words = [f"w{i}" for i in range(900)]

    def reply(body):
        if "max_tokens" in body and body["model"] != OTHER:
            return 400, refusal("Unsupported.", code="unsupported_parameter", param="max_tokens")
        return " ".join(words[: body.get("max_completion_tokens") or body["max_tokens"]])

    chat_host.reply = reply
    record(hosted, folder, "ft:o4-mini-2025-04-16:acme::C3", prompts_of(examples(1)), max_tokens=100)
    assert compare_with_golden(hosted, folder, "ft:o4-mini-2025-04-16:acme::C3", OTHER).exact == 1.0


def test_an_answer_that_was_cut_off_is_compared_as_far_as_it_goes_and_asked_again_if_it_may_be_longer(
    hosted, chat_host, folder
) -> None:
    words = [f"w{i}" for i in range(40)]

    def reply(body):
        said = words[: body["max_tokens"]] if body["model"] == TUNED else words
        return {"content": " ".join(said), "finish_reason": "stop" if len(said) == len(words) else "length"}

    chat_host.reply, prompts = reply, prompts_of(examples(2))
    record(hosted, folder, TUNED, prompts, max_tokens=10)
    assert n_cut(folder, TUNED) == 2
    assert compare_with_golden(hosted, folder, TUNED, OTHER).exact == 1.0
    n_asked = len(chat_host.asked)
    record(hosted, folder, TUNED, prompts, max_tokens=10)
    assert len(chat_host.asked) == n_asked
    assert record(hosted, folder, TUNED, prompts, max_tokens=100) == 2
    assert [entry["answer"] for entry in folder.golden(TUNED)] == [" ".join(words)] * 2
    assert n_cut(folder, TUNED) == 0


def test_answers_that_were_cut_off_before_they_began_are_not_compared_with(hosted, chat_host, folder) -> None:
    chat_host.reply = lambda body: {"content": "", "finish_reason": "length" if asked_of(body) == "q0" else "stop"}
    record(hosted, folder, TUNED, prompts_of(examples(3)))
    assert compare_with_golden(hosted, folder, TUNED, OTHER).n == 2


def test_prompts_come_with_their_tools_and_answers_with_their_calls(hosted, chat_host, folder) -> None:
    more = {"tools": [WEATHER], "parallel_tool_calls": False, "tool_choice": "required"}
    said = {TUNED: '{"days": 2, "city": "Osaka"}', OTHER: '{"city":"Osaka","days":2}', "wrong": '{"city": "Kobe"}'}
    chat_host.reply = lambda body: calling(said[body["model"]])
    assert record(hosted, folder, TUNED, prompts_of(examples(3, **more))) == 3
    entry = next(folder.golden(TUNED))
    assert entry["finish_reason"] == "tool_calls"
    assert entry["message"]["content"] is None
    (call,) = entry["message"]["tool_calls"]
    assert call["function"] == {"name": "weather", "arguments": '{"city": "Osaka", "days": 2}'}
    found = compare_with_golden(hosted, folder, TUNED, OTHER)
    assert (found.exact, found.similarity) == (1.0, 1.0)
    found = compare_with_golden(hosted, folder, TUNED, "wrong")
    assert (found.exact, found.similarity < 1.0) == (0.0, True)
    assert all({name: body[name] for name in more} == more for body in chat_host.asked)


def test_functions_of_old_examples_are_asked_as_tools_and_nothing_is_said_of_tools_without_any() -> None:
    (old,) = prompts_of(examples(1, functions=[WEATHER["function"]]))
    assert old.options == {"tools": [WEATHER]}
    (plain,) = prompts_of(examples(1, parallel_tool_calls=True))
    assert plain.options == {}
    assert plain.key != old.key


def test_preferences_give_prompts_with_their_tools() -> None:
    said = [{"role": "assistant", "content": "yes"}]
    pair = {"input": {"messages": [{"role": "user", "content": "q"}], "tools": [WEATHER]}, "preferred_output": said}
    (prompt,) = prompts_of(Dataset([{**pair, "non_preferred_output": said}]))
    assert prompt.options == {"tools": [WEATHER]}


def test_a_prompt_that_the_other_model_refuses_agrees_in_nothing(hosted, chat_host, folder) -> None:
    chat_host.reply = lambda _: ""
    record(hosted, folder, TUNED, prompts_of(examples(4)))
    too_long = (400, refusal("Too long", code="context_length_exceeded"))
    chat_host.reply = lambda body: too_long if asked_of(body) == "q0" else ""
    found = compare_with_golden(hosted, folder, TUNED, OTHER)
    assert (found.n, found.exact, found.similarity) == (4, 0.75, 0.75)
    chat_host.reply = lambda _: too_long
    with pytest.raises(BackendError, match="Too long"):
        compare_with_golden(hosted, folder, TUNED, OTHER)


def test_answers_with_half_a_character_are_recorded(hosted, chat_host, folder) -> None:
    half = json.loads(r'"\ud83d"')
    chat_host.reply = lambda _: f"日本 {half}"
    record(hosted, folder, TUNED, prompts_of(examples(1)))
    assert compare_with_golden(hosted, folder, TUNED, OTHER).exact == 1.0


def test_answers_are_compared_whole_and_in_part() -> None:
    found = agreement([(Answer(text="yes"), Answer(text="yes")), (Answer(text="abcd"), Answer(text="abxy"))])
    assert (found.n, found.exact, found.similarity) == (2, 0.5, 0.75)


def test_calls_are_the_same_in_whatever_order_and_not_without_the_text_beside_them() -> None:
    a, b = Call(name="a", arguments="{}"), Call(name="b", arguments='{"x": 1}')
    same = agreement([(Answer(text="", calls=[a, b]), Answer(text="", calls=[b, a]))])
    assert (same.exact, same.similarity) == (1.0, 1.0)
    assert agreement([(Answer(text="Hm.", calls=[a]), Answer(text="", calls=[a]))]).exact == 0.0
