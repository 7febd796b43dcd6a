"""Text steps: what each changes, and what it must leave alone."""

from __future__ import annotations

import json

import pytest

from ftclient.data.clean import STEPS, Cleaner, Cleaning
from ftclient.data.clean.changes import excerpts
from ftclient.data.clean.steps import TEXT_STEPS


@pytest.mark.parametrize(
    ("step", "before", "after"),
    [
        ("unicode", "cafe\u0301 か\u3099", "café が"),
        ("unicode", "lost \ud83d half", "lost \ufffd half"),
        ("unicode", "paired \ud83d\ude00", "paired 😀"),
        ("unicode", "㌔ ① ﬁ stay", "㌔ ① ﬁ stay"),
        ("controls", "a\x00b\u200bc\u202ed\ufeff\u00ad", "abcd"),
        ("controls", "tab\tand\nline stay", "tab\tand\nline stay"),
        ("controls", "👩\u200d👧 क्\u200dष stay", "👩\u200d👧 क्\u200dष stay"),
        ("line_ends", "a\r\nb\rc\n", "a\nb\nc\n"),
        ("width", "ＡＢＣ１２３", "ABC123"),
        ("width", "ﾊﾝｶｸ ｶﾞｷﾞ", "ハンカク ガギ"),
        ("width", "０３－１２３４－５６７８", "03-1234-5678"),
        ("width", "ａ＠ｂ．ｃｏ．ｊｐ", "a@b.co.jp"),
        ("width", "本当ですか！？（笑）「はい」、そうです。～", "本当ですか！？（笑）「はい」、そうです。～"),
        ("white_space", "  a  b \n\n\n\n c\u3000d ", "a b\n\n c d"),
        ("white_space", "if a:\n    b  =  2\n\u3000段落", "if a:\n    b = 2\n\u3000段落"),
        ("white_space", "see `x  =  1`\n```\nif a:\n    b  =  2\n```", "see `x  =  1`\n```\nif a:\n    b  =  2\n```"),
        ("html", "<p>Hello<br/>you &amp; me&nbsp;&#233;</p>", "Hello\nyou & me\xa0é\n"),
        ("html", "<script>steal()</script>kept<!-- note -->", "kept"),
        ("html", "a < b, List<String> and x<y>z stay", "a < b, List<String> and x<y>z stay"),
        ("html", "code: `<b>bold</b>` and &unknown; stay", "code: `<b>bold</b>` and &unknown; stay"),
    ],
)
def test_a_text_step(step, before, after):
    assert TEXT_STEPS[step](before) == after


@pytest.mark.parametrize("step", TEXT_STEPS)
def test_a_step_done_twice_changes_nothing_more(step):
    text = "  Ａ<p>&amp;amp;</p> cafe\u0301\r\n\r\n\u200b`x  y` ﾊﾟ \x01 "
    once = TEXT_STEPS[step](text)
    if step != "html":  # an entity may hide another one, which is then meant
        assert TEXT_STEPS[step](once) == once


def clean(example, *steps, **options):
    return Cleaner(Cleaning(steps=steps, **options)).clean(example, line=4)


def test_every_text_of_an_example_is_cleaned_and_nothing_else():
    wide = "Ａ"
    call = {"id": wide, "type": "function", "function": {"name": wide, "arguments": json.dumps({wide: [wide]})}}
    example = {
        "messages": [
            {"role": "user", "name": wide, "content": [{"type": "text", "text": wide}]},
            {"role": "assistant", "content": None, "refusal": wide, "tool_calls": [call]},
        ],
        "tools": [{"type": "function", "function": {"name": wide, "description": wide}}],
    }
    cleaned = clean(example, "width")
    user, assistant = cleaned.example["messages"]
    assert user == {"role": "user", "name": wide, "content": [{"type": "text", "text": "A"}]}
    assert assistant["refusal"] == "A"
    assert json.loads(assistant["tool_calls"][0]["function"]["arguments"]) == {wide: ["A"]}
    assert assistant["tool_calls"][0]["id"] == wide
    assert cleaned.example["tools"] == example["tools"]
    assert [change.path for change in cleaned.changes] == [
        "/messages/0/content/0/text",
        "/messages/1/refusal",
        "/messages/1/tool_calls/0/function/arguments",
    ]


def test_arguments_that_are_json_stay_json():
    """A full-width quotation mark in a string must not end the string."""
    arguments = json.dumps({"note": "＂ＡＢ＂ <b>x</b> &quot;"})
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    example = {"messages": [{"role": "assistant", "tool_calls": [call]}]}
    cleaned = clean(example, "width", "html").example
    found = json.loads(cleaned["messages"][0]["tool_calls"][0]["function"]["arguments"])
    assert found == {"note": '＂AB＂ x "'}


def test_a_text_never_becomes_empty():
    example = {"messages": [{"role": "user", "content": "\u200b"}, {"role": "assistant", "content": "<br>"}]}
    assert clean(example, "controls", "html", "white_space").example == example


def test_the_example_that_was_given_is_not_changed():
    example = {"messages": [{"role": "human", "content": " Ａ "}]}
    clean(example, *[step for step in STEPS if step != "too_long"], fix=True)
    assert example == {"messages": [{"role": "human", "content": " Ａ "}]}


def test_changes_have_line_path_before_and_after():
    example = {"prompt": "x" * 200 + "Ａ" + "y" * 200, "completion": "b"}
    (change,) = clean(example, "width").changes
    assert (change.line, change.path, change.step) == (4, "/prompt", "width")
    assert change.before == "…" + "x" * 16 + "Ａ" + "y" * 16 + "…"
    assert change.after == "…" + "x" * 16 + "A" + "y" * 16 + "…"


def test_excerpts_are_short_and_can_be_written():
    before, after = excerpts("a" * 300, "a" * 100 + "\ud800" + "b" * 300)
    assert max(len(before), len(after)) <= 80
    assert "?" in after or "\ufffd" in after
    after.encode()


def test_unknown_steps_are_refused_with_the_names_of_all():
    with pytest.raises(ValueError, match="no step 'wash'; the steps are unicode, controls"):
        Cleaning(steps=["wash"])


def test_too_long_needs_to_know_the_model():
    with pytest.raises(ValueError, match="needs a model"):
        Cleaning(steps=["too_long"])
