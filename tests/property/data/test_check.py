"""Properties of the check, over generated examples, defects and bytes."""

from __future__ import annotations

import io
import json
from copy import deepcopy
from functools import cache

import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st

from ftclient.data import check_examples, check_file
from ftclient.data.findings import CODES
from ftclient.data.reader import count_keys, parse_line
from ftclient.data.text_counter import TextCounter
from ftclient.data.vocab import ensure_vocabulary
from tests.unit.data.test_codes import TOOL, answer, call, image

FEW = settings(max_examples=40)

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(
    lambda text: not text.isspace() and "<|" not in text
)
plain = st.fixed_dictionaries({"role": st.sampled_from(["system", "developer", "user"]), "content": texts})
seen = st.builds(
    lambda text, n: {"role": "user", "content": [{"type": "text", "text": text}, *[image()] * n]},
    texts,
    st.integers(0, 1),
)
answers = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": texts}, optional={"weight": st.just(1), "name": st.just("bot")}
)


@st.composite
def tool_turns(draw):
    ids = draw(st.lists(st.from_regex(r"call_[a-z0-9]{1,6}", fullmatch=True), min_size=1, max_size=3, unique=True))
    arguments = draw(st.lists(texts, min_size=len(ids), max_size=len(ids)))
    calls = [call(i, arguments=json.dumps({"id": text})) for i, text in zip(ids, arguments, strict=True)]
    return [{"role": "assistant", "content": None, "tool_calls": calls}, *map(answer, draw(st.permutations(ids)))]


turns = st.one_of(st.lists(st.one_of(plain, seen, answers), max_size=3), tool_turns())
chats = st.builds(
    lambda parts, last: {"messages": [*[m for part in parts for m in part], last], "tools": [TOOL]},
    st.lists(turns, max_size=3),
    answers,
)
pairs = st.builds(
    lambda prompt, better, worse: {
        "input": {"messages": prompt},
        "preferred_output": [{"role": "assistant", "content": better}],
        "non_preferred_output": [{"role": "assistant", "content": worse + "!"}],
    },
    st.lists(plain, min_size=1, max_size=3),
    texts,
    texts,
).filter(lambda pair: pair["preferred_output"] != pair["non_preferred_output"])
prompts = st.builds(
    lambda messages, last, reference: {"messages": [*messages, last], **reference},
    st.lists(plain, max_size=3),
    st.fixed_dictionaries({"role": st.just("user"), "content": texts}),
    st.dictionaries(st.sampled_from(["answer", "grade", "labels"]), st.one_of(texts, st.integers(), st.lists(texts))),
)

KEYS = ["messages", "role", "content", "name", "weight", "tool_calls", "id", "type", "function", "arguments", "tools"]
KEYS += ["parameters", "image_url", "url", "input", "preferred_output", "non_preferred_output", "prompt", "x"]
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(KEYS), inner, max_size=5)),
    max_leaves=25,
)
methods = st.sampled_from(["supervised", "dpo", "reinforcement"])


def errors(examples, method="supervised"):
    report = check_examples(examples, method=method, is_training=False, encoding=None)
    return [(i.line, i.path, i.code) for i in report.issues if i.severity == "error"]


@FEW
@given(st.lists(chats, min_size=1, max_size=4))
def test_valid_chats_have_no_errors(examples):
    assert errors(examples) == []


@FEW
@given(st.lists(pairs, min_size=1, max_size=4))
def test_valid_preferences_have_no_errors(examples):
    assert errors(examples, "dpo") == []


@FEW
@given(st.lists(prompts, min_size=1, max_size=4))
def test_valid_reinforcement_prompts_have_no_errors(examples):
    assert errors(examples, "reinforcement") == []


def put(example, i, message):
    example["messages"].insert(i, message)
    return i


def spoil(code, example, i):
    """Put a defect into a chat (at message `i`, one without calls); returns where it must be found."""
    message, messages = example["messages"][i], example["messages"]
    if code in AT_MESSAGE:
        key, value = AT_MESSAGE[code]
        message[key] = value
        return f"/messages/{i}/{key}"
    if code == "weight_misplaced":
        return f"/messages/{put(example, 0, {'role': 'user', 'content': 'a', 'weight': 0})}/weight"
    if code == "last_not_assistant":
        return f"/messages/{put(example, len(messages), {'role': 'user', 'content': 'a'})}/role"
    if code == "tool_call_unknown":
        return f"/messages/{put(example, 0, answer('nobody'))}/tool_call_id"
    example["tools"].append({"type": "function", "function": {"name": "a b"}})
    return "/tools/1/function/name"


AT_MESSAGE = {
    "role_unknown": ("role", "robot"),
    "content_missing": ("content", ""),
    "unknown_key": ("mood", "sad"),
    "wrong_type": ("name", 5),
    "special_token": ("content", "a <|endoftext|>"),
}
CODES_TO_SEED = [*AT_MESSAGE, "weight_misplaced", "last_not_assistant", "tool_call_unknown", "tools_invalid"]


@FEW
@given(st.lists(chats, min_size=1, max_size=4), st.data())
def test_a_seeded_defect_is_found_at_its_line_and_path(examples, data):
    examples = deepcopy(examples)
    line = data.draw(st.integers(1, len(examples)))
    example = examples[line - 1]
    can_change = [
        i for i, message in enumerate(example["messages"]) if {"tool_calls", "tool_call_id"}.isdisjoint(message)
    ]
    code = data.draw(st.sampled_from(CODES_TO_SEED))
    path = spoil(code, example, data.draw(st.sampled_from(can_change)))
    found = errors(examples)
    assert (line, path, code) in found
    assert {where for where, _, _ in found} == {line}


@FEW
@given(st.lists(json_values, max_size=4), methods)
def test_any_json_gives_a_report_of_known_codes(values, method):
    content = "\n".join(json.dumps(value) for value in values).encode()
    report = check_file(io.BytesIO(content), method=method)
    assert {issue.code for issue in report.issues} <= CODES
    assert json.loads(json.dumps(report.to_json()))["n_examples"] == report.n_examples


def places(value):
    """Every container of a value with each of its keys."""
    for key in value if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from places(value[key])


@settings(max_examples=100)
@given(st.one_of(chats, pairs, prompts), json_values, methods, st.data())
def test_good_examples_with_a_strange_value_give_a_report(example, value, method, data):
    example = deepcopy(example)
    holder, key = data.draw(st.sampled_from(list(places(example))))
    holder[key] = value
    report = check_file(io.BytesIO(json.dumps(example).encode()), method=method)
    assert {issue.code for issue in report.issues} <= CODES


@settings(max_examples=100)
@given(st.binary(max_size=200), methods)
def test_any_bytes_give_a_report(content, method):
    report = check_file(io.BytesIO(content), method=method)
    assert {issue.code for issue in report.issues} <= CODES


@settings(max_examples=100)
@given(st.data())
def test_damaged_files_give_a_report(data):
    """Bytes cut, overwritten and doubled in a file that was good."""
    example = {"messages": [{"role": "user", "content": "Grüße <|x \\"}, {"role": "assistant", "content": "b"}]}
    content = bytearray("".join(json.dumps(example, ensure_ascii=False) + "\n" for _ in range(3)).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    report = check_file(io.BytesIO(bytes(content)))
    assert {issue.code for issue in report.issues} <= CODES


@settings(max_examples=100)
@given(json_values)
def test_a_line_is_read_as_the_standard_library_reads_it(value):
    text = json.dumps(value)
    line = parse_line(text.encode())
    refused = any(word in text for word in ("NaN", "Infinity")) and not line.is_json
    assert refused or repr(line.value) == repr(json.loads(text))
    if line.is_json:
        assert not [problem for problem in line.problems if problem.code == "duplicate_key"]
        assert count_keys(line.value) == text.count('": ') or '": ' in str(value)


_PIECES = [*"aBé東あ1!/'s \t\n\r\x0b\u3000\xa0\x1c\u2028\u0301😀\ud800", "<|endoftext|>", "<|endofprompt|>", "  "]
SPACED = st.lists(st.sampled_from(_PIECES), max_size=24).map("".join)


@cache
def both(name):
    assert ensure_vocabulary(name)
    return TextCounter(name), tiktoken.get_encoding(name)


@settings(max_examples=200)
@given(st.lists(st.one_of(st.text(max_size=40), SPACED), max_size=6), st.sampled_from(["o200k_base", "cl100k_base"]))
def test_counts_equal_those_of_the_library(many, name):
    counter, encoding = both(name)
    assert counter.count(many) == [len(encoding.encode_ordinary(text)) for text in many]
