"""Every code of the checker: a smallest line that has it, and where it is found."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from ftclient.data import LOCAL_LIMITS, OPENAI_LIMITS, Issue, Limits, check_examples, check_file
from ftclient.data.findings import CODES, WARNINGS
from ftclient.data.tokens import TokenCount

TOOL = {
    "type": "function",
    "function": {
        "name": "find_order",
        "description": "Find an order.",
        "parameters": {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]},
    },
}


def system(text: str = "You help.") -> dict[str, Any]:
    return {"role": "system", "content": text}


def user(content: Any = "Where is it?", **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **more}


def assistant(content: Any = "On its way.", **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def call(call_id: str = "c1", name: str = "find_order", arguments: Any = '{"id": "7"}') -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def calling(*calls: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": list(calls)}


def answer(call_id: str = "c1") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": "Berlin"}


def chat(*messages: Any, **more: Any) -> dict[str, Any]:
    return {"messages": list(messages), **more}


def with_tool(*messages: Any) -> dict[str, Any]:
    return chat(*messages, tools=[TOOL])


def pair(**more: Any) -> dict[str, Any]:
    example = {
        "input": chat(user()),
        "preferred_output": [assistant("Yes.")],
        "non_preferred_output": [assistant("No.")],
    }
    return {**example, **more}


def png(width: int = 4, height: int = 3, *, color: int = 2, padding: int = 0) -> bytes:
    """A real PNG of one colour; `color` is 0 gray, 2 RGB, 6 RGBA."""
    channels = {0: 1, 2: 3, 6: 4}[color]
    rows = (b"\0" + b"\x80" * width * channels) * height

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0)
    text = chunk(b"tEXt", b"Comment\0" + b"x" * padding) if padding else b""
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + text + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


def data_url(content: bytes, label: str = "image/png") -> str:
    return f"data:{label};base64,{base64.b64encode(content).decode()}"


def image(url: Any = None, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": data_url(png()) if url is None else url, **more}}


GOOD = json.dumps(chat(user(), assistant())).encode()


class Case(NamedTuple):
    code: str
    path: str
    line: Any
    """An object, or the raw bytes of a line."""
    method: str = "supervised"
    limits: Limits = replace(OPENAI_LIMITS, min_examples=1)


CASES = [
    Case("encoding", "", GOOD.replace(b"Where", b"\xff")),
    Case("encoding", "/messages/0/content", chat(user("\ud800"), assistant())),
    Case("json_syntax", "", b"{'messages': []}"),
    Case("json_syntax", "", b'{"messages": NaN}'),
    Case("json_syntax", "", b'{"messages": -Infinity}'),
    Case("json_syntax", "", b'{"messages": [\0]}'),
    Case("json_syntax", "", b'{"messages": [1,]}'),
    Case("json_syntax", "", b"[" * 100_000),
    Case("json_syntax", "", b'{"seed": ' + b"9" * 5_000 + b"}"),
    Case("not_an_object", "", b'["messages"]'),
    Case("not_an_object", "", b"null"),
    Case("blank_line", "", b" \t"),
    Case("blank_line", "", "\u3000".encode()),
    Case("legacy_format", "", {"prompt": "a", "completion": "b"}),
    Case("unknown_key", "/weight", chat(user(), assistant(), weight=1)),
    Case("unknown_key", "/a~1b~0", {**chat(user(), assistant()), "a/b~": 1}),
    Case("unknown_key", "/messages/0/mood", chat(user(mood="sad"), assistant())),
    Case("unknown_key", "/messages/0/tool_calls", chat(user(tool_calls=[]), assistant())),
    Case("unknown_key", "/input/temperature", pair(input=chat(user(), temperature=1)), "dpo"),
    Case("missing_key", "/messages", {"tools": []}),
    Case("missing_key", "/messages/0/role", chat({"content": "a"}, assistant())),
    Case("missing_key", "/messages/0/content", chat({"role": "user"}, assistant())),
    Case(
        "missing_key",
        "/messages/2/tool_call_id",
        chat(user(), assistant(), {"role": "tool", "content": "a"}, assistant()),
    ),
    Case("missing_key", "/non_preferred_output", {k: v for k, v in pair().items() if k[0] != "n"}, "dpo"),
    Case("missing_key", "/input", chat(user(), assistant()), "dpo"),
    Case("missing_key", "/messages", pair()),
    Case("wrong_type", "/messages", {"messages": "hi"}),
    Case("wrong_type", "/messages/1", chat(user(), "hi", assistant())),
    Case("wrong_type", "/messages/0/content", chat(user(5), assistant())),
    Case("wrong_type", "/messages/0/role", chat({"role": 1, "content": "a"}, assistant())),
    Case("wrong_type", "/messages/0/content/0/type", chat(user([{"type": "audio"}]), assistant())),
    Case("wrong_type", "/parallel_tool_calls", chat(user(), assistant(), parallel_tool_calls="no")),
    Case("wrong_type", "/messages/1/tool_calls/0/function/arguments", with_tool(user(), calling(call(arguments={})))),
    Case("empty_messages", "/messages", chat()),
    Case("empty_messages", "/input/messages", pair(input=chat()), "dpo"),
    Case("role_unknown", "/messages/0/role", chat({"role": "human", "content": "a"}, assistant())),
    Case("content_missing", "/messages/1/content", chat(user(), assistant(None))),
    Case("content_missing", "/messages/0/content", chat(user(""), assistant())),
    Case("content_missing", "/messages/0/content/0/text", chat(user([{"type": "text", "text": ""}]), assistant())),
    Case("content_blank", "/messages/0/content", chat(user("\u3000 \n"), assistant())),
    Case("assistant_missing", "/messages", chat(system(), user())),
    Case("last_not_assistant", "/messages/2/role", chat(user(), assistant(), user())),
    Case("nothing_trained", "/messages", chat(user(), assistant(weight=0))),
    Case("weight_invalid", "/messages/1/weight", chat(user(), assistant(weight=0.5))),
    Case("weight_invalid", "/messages/1/weight", chat(user(), assistant(weight=True))),
    Case("weight_invalid", "/messages/1/weight", chat(user(), assistant(weight=-0.5)), limits=LOCAL_LIMITS),
    Case("weight_invalid", "/messages/1/weight", chat(user(), assistant(weight=10**400)), limits=LOCAL_LIMITS),
    Case("weight_invalid", "/preferred_output/0/weight", pair(preferred_output=[assistant(weight=0)]), "dpo"),
    Case("weight_invalid", "/preferred_output/0/weight", pair(preferred_output=[assistant(weight=0.5)]), "dpo"),
    Case(
        "weight_invalid",
        "/non_preferred_output/0/weight",
        pair(non_preferred_output=[assistant("No.", weight=0.5)]),
        "dpo",
        limits=LOCAL_LIMITS,
    ),
    Case("weight_misplaced", "/messages/0/weight", chat(user(weight=1), assistant())),
    Case("special_token", "/messages/0/content", chat(user("a<|im_end|>b"), assistant())),
    Case(
        "special_token",
        "/messages/1/content/0/text",
        chat(user(), assistant([{"type": "text", "text": "<|endoftext|>"}])),
    ),
    Case(
        "special_token",
        "/messages/0/content",
        chat(user("[INST] a"), assistant()),
        limits=replace(LOCAL_LIMITS, special_tokens=frozenset({"[INST]"})),
    ),
    Case("too_long", "", chat(user("word " * 50), assistant()), limits=replace(OPENAI_LIMITS, context_tokens=40)),
    Case(
        "tools_invalid",
        "/tools/0/function/name",
        chat(user(), assistant(), tools=[{**TOOL, "function": {"name": "a b"}}]),
    ),
    Case(
        "tools_invalid",
        "/tools/0/function/parameters",
        chat(user(), assistant(), tools=[{**TOOL, "function": {"name": "a", "parameters": {"type": 5}}}]),
    ),
    Case(
        "tools_invalid",
        "/tools/0/function/parameters",
        chat(
            user(),
            assistant(),
            tools=[
                {"type": "function", "function": {"name": "a", "parameters": {"properties": {"x": {"type": "txt"}}}}}
            ],
        ),
    ),
    Case("tools_invalid", "/tools/1/function/name", chat(user(), assistant(), tools=[TOOL, TOOL])),
    Case("tools_invalid", "/tools/0/type", chat(user(), assistant(), tools=[{**TOOL, "type": "web"}])),
    Case("tool_undefined", "/messages/1/tool_calls/0/function/name", with_tool(user(), calling(call(name="find")))),
    Case("tool_undefined", "/messages/1/tool_calls/0/function/name", chat(user(), calling(call()))),
    Case(
        "tool_arguments_not_json",
        "/messages/1/tool_calls/0/function/arguments",
        with_tool(user(), calling(call(arguments="{id: 7}"))),
    ),
    Case(
        "tool_arguments_mismatch",
        "/messages/1/tool_calls/0/function/arguments",
        with_tool(user(), calling(call(arguments='{"id": 7}'))),
    ),
    Case("tool_call_unanswered", "/messages/1/tool_calls/0", with_tool(user(), calling(call()), assistant())),
    Case(
        "tool_call_unanswered",
        "/messages/1/tool_calls/1",
        with_tool(user(), calling(call(), call("c2")), answer(), assistant()),
    ),
    Case("tool_call_unknown", "/messages/1/tool_call_id", with_tool(user(), answer("c9"), assistant())),
    Case(
        "tool_call_unknown",
        "/messages/3/tool_call_id",
        with_tool(user(), calling(call()), answer(), answer(), assistant()),
    ),
    Case("image_misplaced", "/messages/1/content/0", chat(user(), assistant([image()]))),
    Case("image_misplaced", "/input/messages/0/content/0", pair(input=chat(user([image()]))), "dpo"),
    Case("image_too_many", "/messages/0/content/10", chat(user([image()] * 12), assistant())),
    Case(
        "image_format",
        "/messages/0/content/0/image_url/url",
        chat(user([image(data_url(b"GIF89a" + b"\0" * 40))]), assistant()),
    ),
    Case(
        "image_format", "/messages/0/content/0/image_url/url", chat(user([image(data_url(png(color=0)))]), assistant())
    ),
    Case(
        "image_format",
        "/messages/0/content/0/image_url/url",
        chat(user([image(data_url(b"BM" + b"\0" * 60, "image/png"))]), assistant()),
    ),
    Case(
        "image_too_large",
        "/messages/0/content/0/image_url/url",
        chat(user([image(data_url(png(padding=2_000)))]), assistant()),
        limits=replace(OPENAI_LIMITS, max_image_bytes=1_000),
    ),
    Case(
        "image_url_invalid",
        "/messages/0/content/0/image_url/url",
        chat(user([image("file:///etc/passwd")]), assistant()),
    ),
    Case(
        "image_url_invalid",
        "/messages/0/content/0/image_url/url",
        chat(user([image("data:image/png;base64,@@")]), assistant()),
    ),
    Case("image_url_invalid", "/messages/0/content/0/image_url/detail", chat(user([image(detail="max")]), assistant())),
    Case("preference_not_single_assistant", "/preferred_output", pair(preferred_output=[]), "dpo"),
    Case(
        "preference_not_single_assistant",
        "/preferred_output",
        pair(preferred_output=[assistant("a"), assistant("b")]),
        "dpo",
    ),
    Case("preference_not_single_assistant", "/preferred_output/0/role", pair(preferred_output=[user()]), "dpo"),
    Case(
        "preference_identical",
        "/non_preferred_output",
        pair(non_preferred_output=[{"content": "Yes.", "role": "assistant"}]),
        "dpo",
    ),
    Case(
        "preference_identical",
        "/non_preferred_output",
        pair(non_preferred_output=[assistant([{"type": "text", "text": "Yes."}])]),
        "dpo",
    ),
    Case(
        "preference_identical", "/non_preferred_output", pair(non_preferred_output=[assistant("Yes.", weight=1)]), "dpo"
    ),
    Case(
        "tool_undefined",
        "/preferred_output/0/tool_calls/0/function/name",
        pair(preferred_output=[calling(call(name="nothing"))]),
        "dpo",
    ),
    Case("last_not_user", "/messages/1/role", {**chat(user(), assistant()), "answer": "7"}, "reinforcement"),
    Case("duplicate_key", "/messages/0/role", GOOD.replace(b'"role"', b'"role": "user", "role"', 1)),
    Case("duplicate_key", "/messages", GOOD.replace(b'"messages"', b'"messages" : 1, "messages"')),
]

OF_THE_FILE = {"file_empty", "bom", "too_few_examples", "mixed_formats", "image_examples_too_many"}


def raw(line: Any) -> bytes:
    return line if isinstance(line, bytes) else json.dumps(line).encode()


def check(content: bytes, case: Case) -> list[Issue]:
    report = check_file(io.BytesIO(content), method=case.method, limits=case.limits, is_training=False)
    return [issue for issue in report.issues if issue.line is not None]


@pytest.mark.parametrize("case", CASES, ids=[f"{case.code}-{i}" for i, case in enumerate(CASES)])
def test_a_defect_is_found_alone_at_its_line_and_path(case):
    good = raw(
        pair()
        if case.method == "dpo"
        else chat(user())
        if case.method == "reinforcement"
        else chat(user(), assistant())
    )
    issues = check(b"\n".join([good, raw(case.line), good]), case)
    severity = "warning" if case.code in WARNINGS else "error"
    assert [(issue.line, issue.path, issue.code, issue.severity) for issue in issues] == [
        (2, case.path, case.code, severity)
    ]
    assert issues[0].message
    assert issues[0].hint


def test_every_code_has_a_case():
    assert {case.code for case in CASES} | OF_THE_FILE == CODES


def test_all_problems_of_a_line_are_found():
    line = chat({"role": "human", "content": ""}, {"rol": "user"}, user(weight=2), assistant("<|im_start|>", weight=3))
    found = {(issue.path, issue.code) for issue in check_examples([line], is_training=False).issues}
    assert found == {
        ("/messages/0/role", "role_unknown"),
        ("/messages/0/content", "content_missing"),
        ("/messages/1/role", "missing_key"),
        ("/messages/1/content", "missing_key"),
        ("/messages/1/rol", "unknown_key"),
        ("/messages/2/weight", "weight_misplaced"),
        ("/messages/3/weight", "weight_invalid"),
        ("/messages/3/content", "special_token"),
    }


@pytest.mark.parametrize(
    "line",
    [
        chat(user("a"), assistant("b")),
        chat(system(), {"role": "developer", "content": "c"}, user("a", name="Ann"), assistant("b", weight=1)),
        chat(user(), assistant("no", weight=0), user(), assistant("yes", weight=1)),
        chat(user(), assistant(None, refusal="I can't.")),
        chat(
            user([{"type": "text", "text": "What is it?"}, image(), image("https://a.org/b", detail="low")]),
            assistant(),
        ),
        with_tool(user(), calling(call())),
        with_tool(user(), calling(call(), call("c2")), answer("c2"), answer(), assistant()),
        with_tool(user(), {**calling(call()), "content": None, "refusal": None}, answer(), assistant()),
        chat(user(), assistant([{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "b"}])),
        chat(
            user(),
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
            {"role": "function", "name": "f", "content": "1"},
            assistant(),
            functions=[{"name": "f", "parameters": {"type": "object", "properties": {}}}],
        ),
        chat(user(), assistant(), tools=[], parallel_tool_calls=False),
    ],
)
def test_valid_lines_have_no_issues(line):
    assert list(check_examples([line], is_training=False).issues) == []


def test_answers_of_a_pair_may_say_that_they_count_whole():
    earlier = chat(user(), assistant("Well.", weight=0), user())
    line = pair(input=earlier, preferred_output=[assistant("Yes.", weight=1)])
    assert list(check_examples([line], method="dpo", is_training=False).issues) == []


@pytest.mark.parametrize("weight", [0, 0.25, 1.0, 3])
def test_real_valued_weights_pass_for_local_training(weight):
    line = chat(user(), assistant(weight=weight), user(), assistant())
    assert check_examples([line], limits=LOCAL_LIMITS, is_training=False).ok


def test_too_long_is_an_error_where_nothing_is_cut_in_silence():
    report = check_examples(
        [chat(user("word " * 50), assistant())], limits=replace(LOCAL_LIMITS, context_tokens=40), is_training=False
    )
    assert [(issue.line, issue.code, issue.severity) for issue in report.issues] == [(1, "too_long", "error")]


def test_own_tokenizer_counts_sound_examples_only():
    seen = []

    def count(example):
        seen.append(example)
        return TokenCount(99, trained=7, is_estimate=False)

    lines = [chat(user(), assistant()), chat(user("")), chat(user(), assistant("b"))]
    report = check_examples(
        lines, limits=replace(LOCAL_LIMITS, context_tokens=98), is_training=False, count_tokens=count
    )
    assert [issue.line for issue in report.issues if issue.code == "too_long"] == [1, 3]
    assert seen == [lines[0], lines[2]]
    assert (report.stats["tokens"]["total"], report.stats["tokens"]["trained"]) == (198, 14)
    assert report.stats["tokens"]["encoding"] == "the model's own tokenizer"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "file_empty"),
        (b"\n \n", "file_empty"),
        (b"\xef\xbb\xbf" + raw(chat(user(), assistant())) * 10, "bom"),
        ("{}".encode("utf-16"), "bom"),
        (raw(chat(user(), assistant())), "too_few_examples"),
        (raw(chat(user(), assistant())) + b"\n" + raw(pair()), "mixed_formats"),
    ],
)
def test_problems_of_the_file_have_no_line(content, code):
    report = check_file(io.BytesIO(content))
    assert (None, "", code, "error") in [(i.line, i.path, i.code, i.severity) for i in report.issues]


def test_more_examples_with_images_than_the_host_takes_are_told_once():
    examples = [chat(user([image()]), assistant())] * 11
    for limits, found in ((replace(OPENAI_LIMITS, max_image_examples=10), 1), (OPENAI_LIMITS, 0), (LOCAL_LIMITS, 0)):
        report = check_examples(examples, limits=limits)
        told = [issue for issue in report.issues if issue.code == "image_examples_too_many"]
        assert len(told) == found
        assert report.ok
    assert OPENAI_LIMITS.max_image_examples == 50_000


def test_validation_files_may_be_short():
    assert check_examples([chat(user(), assistant())], is_training=False).ok


def test_openais_own_words_are_given_where_they_are_known():
    cases = {
        b"": None,
        raw({**chat(user(), assistant()), "weight": 1}): 'Invalid file format. Example 1 contains an extra "weight".',
        raw(chat({"content": "a"}, assistant())): (
            "Invalid file format. Example 1, message 1 Discriminator 'role' is missing in value"
        ),
        b'{"a" 1}': (
            "Invalid file format. Example 1 cannot be parsed. Error: line contains invalid json: "
            "Expecting ':' delimiter: line 1 column 6 (char 5) (line 1)"
        ),
        raw(chat(user("<|fim_suffix|>"), assistant())): (
            "Invalid file format. Example 1 message contains an invalid token: <|fim_suffix|>."
        ),
    }
    for content, words in cases.items():
        assert check_file(io.BytesIO(content)).issues[0].host_message == words
    few = check_examples([chat(user(), assistant())] * 7).issues[0]
    assert few.host_message == "Training file has 7 example(s), but must have at least 10 examples"


def test_report_json_has_exactly_the_published_shape():
    found = check_examples([chat(user(), assistant()), chat()]).to_json()
    assert list(found) == ["ok", "n_examples", "n_errors", "n_warnings", "issues", "stats"]
    assert all(list(issue) == ["line", "path", "code", "severity", "message", "hint"] for issue in found["issues"])
    assert (found["ok"], found["n_examples"], found["n_errors"], found["n_warnings"]) == (False, 2, 2, 0)
    assert json.loads(json.dumps(found)) == found


def test_messages_hold_little_of_the_text_and_no_control_characters():
    long = "\x1b[31m" + "secret " * 100
    line = chat({"role": long, "content": "a"}, assistant("a", weight=long), **{long: 1})
    for issue in check_examples([line]).issues:
        assert len(issue.message) < 200
        assert (issue.message + issue.path + (issue.host_message or "")).isprintable()
        assert "secret " * 12 not in issue.message


def test_schemas_that_branch_into_themselves_end():
    """Each level of the arguments doubles the work, were it not given up."""
    node = {"anyOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}]}
    schema = {
        "type": "object",
        "properties": {"a": node},
        "$defs": {"a": {"type": "array", "items": node, "maxItems": 1}},
    }
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    line = chat(user(), calling(call(name="f", arguments='{"a": ' + "[" * 60 + "]" * 60 + "}")), tools=[tool])
    assert check_examples([line], is_training=False).ok


@pytest.mark.parametrize(
    "extra",
    [
        {"$schema": "urn:unknown"},
        {"$schema": 5},
        {"$id": "http://[x"},
        {"$schema": "http://json-schema.org/draft-04/schema#"},
    ],
)
def test_schemas_of_other_drafts_and_odd_names_are_taken(extra):
    parameters = {**TOOL["function"]["parameters"], **extra}
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    report = check_examples([chat(user(), calling(call(name="f", arguments='{"id": 1}')), tools=[tool])])
    assert {issue.code for issue in report.issues} <= {"tools_invalid", "tool_arguments_mismatch", "too_few_examples"}


def test_schemas_that_could_hang_or_call_home_do_neither():
    """Patterns are not run, remote references are not fetched, references in a circle end."""
    evil = {
        "type": "object",
        "properties": {
            "a": {"type": "string", "pattern": "^(a+)+$"},
            "b": {"$ref": "http://127.0.0.1:9/schema"},
            "c": {"$ref": "#/properties/c"},
        },
    }
    tool = {"type": "function", "function": {"name": "f", "parameters": evil}}
    arguments = json.dumps({"a": "a" * 60 + "!", "b": 1, "c": 1})
    line = chat(user(), calling(call(name="f", arguments=arguments)), tools=[tool])
    assert not [issue for issue in check_examples([line], is_training=False).issues if issue.severity == "error"]
