"""Valid examples of all formats, and JSON and bytes of any kind."""

from __future__ import annotations

import json

from hypothesis import strategies as st

LETTERS = st.characters(exclude_categories=["Cs", "Cc"])
SOME_TEXT = st.text(LETTERS, min_size=1, max_size=40).filter(lambda text: bool(text.strip()) and "<|" not in text)
"""What a message can say: any Unicode but broken characters and controls."""

ODD_TEXT = st.text(max_size=30) | st.sampled_from(
    [
        "a\r\nb",
        "cafe\u0301",
        "ＡＢＣ",
        "ﾊﾝｶｸ",
        "<p>x</p>&amp;",
        "a@b.example",
        "\u200b",
        "  x  ",
        "`a`",
        "```\n  x",
        "\ud800",
    ]
)
"""Any text, and what the steps of cleaning are for."""

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**6), 10**6)
    | st.floats(allow_nan=False, allow_infinity=False)
    | ODD_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ODD_TEXT, inner, max_size=4),
    max_leaves=12,
)

KEYS = st.sampled_from(
    ["role", "content", "weight", "name", "tool_calls", "tool_call_id", "function", "arguments", "id", "type", "text",
     "messages", "tools", "input", "preferred_output", "non_preferred_output", "prompt", "completion", "from", "value",
     "conversations", "image_url", "url", "refusal", "function_call"]
)  # fmt: skip
VALUES = st.sampled_from(
    ["user", "assistant", "system", "human", "function", "text", "image_url", "", "{}", "[]", 0, 1, True]
)

EXAMPLE_LIKE = st.recursive(
    VALUES | ODD_TEXT | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=25,
)
"""JSON that looks like examples and is not."""


@st.composite
def chats(draw: st.DrawFn, texts: st.SearchStrategy[str] = SOME_TEXT) -> dict:
    """A valid chat of one to three exchanges, with and without instructions, weights, and a tool that is called."""
    messages: list[dict] = []
    if draw(st.booleans()):
        messages.append({"role": draw(st.sampled_from(["system", "developer"])), "content": draw(texts)})
    example: dict = {"messages": messages}
    with_tool = draw(st.integers(0, 3)) == 0
    for turn in range(draw(st.integers(1, 3))):
        messages.append({"role": "user", "content": draw(texts | st.just([{"type": "text", "text": "part"}]))})
        if with_tool:
            messages += _called(draw, f"call_{turn}")
        messages.append({"role": "assistant", "content": draw(texts)})
        if draw(st.booleans()):
            messages[-1]["weight"] = 1
    if with_tool:
        parameters = {"type": "object", "properties": {"q": {"type": "string"}}}
        example["tools"] = [{"type": "function", "function": {"name": "find", "parameters": parameters}}]
    return example


def _called(draw: st.DrawFn, call_id: str) -> list[dict]:
    function = {"name": "find", "arguments": json.dumps({"q": draw(SOME_TEXT)})}
    call = {"id": call_id, "type": "function", "function": function}
    return [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call_id, "content": draw(SOME_TEXT)},
    ]
