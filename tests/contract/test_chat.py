"""Chat completions obey what they are asked, and refuse what they would have to ignore."""

from __future__ import annotations

import base64
import io
import json
import math

import openai
import pytest
from PIL import Image

from tests.contract.answers import check_chunk

MODEL = "smollm2-135m"
ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "one two three four"}]


def ask(api, **options):
    return api.chat.completions.create(**{"model": MODEL, "messages": ASKED, "temperature": 0, **options})


def test_an_answer_has_the_fields_of_a_real_one(api):
    answer = ask(api)
    assert answer.id.startswith("chatcmpl-")
    assert (answer.object, answer.model) == ("chat.completion", MODEL)
    assert answer.system_fingerprint.startswith("fp_")
    message = answer.choices[0].message
    assert (message.role, message.content, message.refusal) == ("assistant", "You said: one two three four", None)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].logprobs is None


def test_an_alias_answers_under_its_own_name(api):
    assert ask(api, model="gpt-4o-mini").model == "gpt-4o-mini"


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_the_answer_ends_at_the_limit(api, name):
    answer = ask(api, **{name: 4})
    assert answer.choices[0].message.content == "You said: one"
    assert (answer.choices[0].finish_reason, answer.usage.completion_tokens) == ("length", 4)


@pytest.mark.parametrize("stop", [" three", ["zzz", " three"]])
def test_the_answer_ends_before_a_stop_string(api, stop):
    answer = ask(api, stop=stop)
    assert answer.choices[0].message.content == "You said: one two"
    assert answer.choices[0].finish_reason == "stop"


def test_several_choices_are_numbered(api):
    answer = ask(api, n=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    chunks = list(ask(api, n=3, stream=True))
    texts = dict.fromkeys(range(3), "")
    for chunk in chunks:
        check_chunk(chunk)
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert [texts[choice.index] for choice in answer.choices] == [choice.message.content for choice in answer.choices]


def test_the_same_seed_gives_the_same_answer(api):
    by_seed = {seed: ask(api, seed=seed, temperature=1).choices[0].message.content for seed in range(12)}
    again = {seed: ask(api, seed=seed, temperature=1).choices[0].message.content for seed in range(12)}
    assert by_seed == again
    assert len(set(by_seed.values())) > 1


def test_logprobs_come_with_every_token(api):
    answer = ask(api, logprobs=True, top_logprobs=3)
    tokens = answer.choices[0].logprobs.content
    assert "".join(token.token for token in tokens) == answer.choices[0].message.content
    for token in tokens:
        assert token.logprob <= 0
        assert bytes(token.bytes).decode() == token.token
        assert len(token.top_logprobs) == 3
        assert token.top_logprobs[0].token == token.token
        assert sum(math.exp(top.logprob) for top in token.top_logprobs) <= 1 + 1e-9
    streamed = [
        token
        for chunk in ask(api, logprobs=True, top_logprobs=3, stream=True)
        for choice in chunk.choices
        if choice.logprobs
        for token in choice.logprobs.content
    ]
    assert streamed == tokens
    assert ask(api, logprobs=True).choices[0].logprobs.content[0].top_logprobs == []


@pytest.mark.parametrize(
    "neutral",
    [
        {"frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {}, "response_format": {"type": "text"}},
        {"user": "u", "store": False, "metadata": {"a": "b"}, "service_tier": "auto", "parallel_tool_calls": True},
        {"stop": None, "n": None, "seed": None, "max_tokens": None, "temperature": None, "top_p": None},
    ],
)
def test_what_changes_nothing_is_accepted(api, neutral):
    assert ask(api, **neutral).choices[0].message.content


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"frequency_penalty": 1}, "frequency_penalty"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"prediction": {"type": "content", "content": "x"}}, "prediction"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"extra_body": {"top_k": 5}}, "top_k"),
        ({"temperature": 2.5}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": list("abcde")}, "stop"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "messages"),
        ({"messages": [{"role": "user", "content": "word " * 9000}]}, "messages"),
    ],
)
def test_what_cannot_be_obeyed_is_refused_by_name(api, given, param):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(api, **given)
    assert caught.value.param == param


PARTS = [
    ({"type": "text", "text": 5}, ".text", "expected a string, but got an integer"),
    ({"type": "text", "text": ["a"]}, ".text", "expected a string, but got an array"),
    ({"type": "text"}, "", "A part of the type 'text' must have 'text'."),
    ({"type": "text", "text": None}, "", "A part of the type 'text' must have 'text'."),
    ({"type": "refusal", "refusal": 7}, ".refusal", "expected a string, but got an integer"),
    ({"type": "image_url"}, "", "A part of the type 'image_url' must have 'image_url'."),
    ({"type": "image_url", "image_url": None}, "", "A part of the type 'image_url' must have 'image_url'."),
    ({"type": "image_url", "image_url": "data:,"}, ".image_url", "expected an object, but got a string"),
    ({"type": "image_url", "image_url": {}}, ".image_url.url", "Missing required parameter"),
    ({"type": "image_url", "image_url": {"url": 5}}, ".image_url.url", "expected a string, but got an integer"),
    ({"type": "image_url", "image_url": {"url": None}}, ".image_url.url", "expected a string, but got null"),
]


@pytest.mark.parametrize(("part", "where", "said"), PARTS, ids=[str(part) for part, _, _ in PARTS])
def test_a_part_of_a_message_that_holds_something_else_is_refused_by_its_place(api, part, where, said):
    with pytest.raises(openai.BadRequestError, match=said) as caught:
        ask(api, messages=[{"role": "user", "content": [{"type": "text", "text": "Hello"}, part]}])
    assert caught.value.param == f"messages[0].content[1]{where}"


def test_what_a_part_says_beyond_its_content_is_no_matter(api):
    part = {"type": "text", "text": "one two", "cache_control": {"type": "ephemeral"}}
    assert ask(api, messages=[{"role": "user", "content": [part]}]).choices[0].message.content == "You said: one two"


def test_an_unknown_model_is_not_found(api):
    for name in ("gpt-9", "ft:smollm2-135m:personal::abcdefgh"):
        with pytest.raises(openai.NotFoundError) as caught:
            ask(api, model=name)
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


def test_a_stream_can_be_left_early(api):
    with ask(api, stream=True) as stream:
        first = next(iter(stream))
    assert first.choices[0].delta.role == "assistant"
    assert ask(api).choices


def test_a_model_trained_on_images_tells_them_apart(api, upload, train):
    parts = [[{"type": "image_url", "image_url": {"url": one_pixel(shade)}}] for shade in range(10)]
    answers = [{"role": "assistant", "content": f"shade {i}"} for i in range(10)]
    pairs = [({"role": "user", "content": part}, answer) for part, answer in zip(parts, answers, strict=True)]
    job = train(training_file=upload("".join(json.dumps({"messages": pair}) + "\n" for pair in pairs).encode()))
    for i in (0, 7):
        answer = ask(api, model=job.fine_tuned_model, messages=[pairs[i][0]])
        assert answer.choices[0].message.content == f"shade {i}"


def one_pixel(shade):
    """A data URL of a PNG."""
    target = io.BytesIO()
    Image.new("RGB", (1, 1), (shade, shade, shade)).save(target, "PNG")
    return f"data:image/png;base64,{base64.b64encode(target.getvalue()).decode()}"
