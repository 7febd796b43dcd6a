"""The shapes of training examples, as OpenAI's fine-tuning API reads them.

Three formats are trained on: chat (`supervised`), preference (`dpo`) and reinforcement. Prompt/completion pairs are
known only so that they can be recognised and converted. The types describe valid examples; `check` accepts anything.
"""

from __future__ import annotations

from typing import Any, Literal

from typing_extensions import NotRequired, TypedDict

Role = Literal["system", "developer", "user", "assistant", "tool", "function"]
ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})


class TextPart(TypedDict):
    """A piece of text inside a message."""

    type: Literal["text"]
    text: str


class RefusalPart(TypedDict):
    """A refusal inside an assistant message."""

    type: Literal["refusal"]
    refusal: str


class ImageUrl(TypedDict):
    """Where an image is: http(s) or a data URL with base64."""

    url: str
    detail: NotRequired[Literal["low", "high", "auto"]]


class ImagePart(TypedDict):
    """An image inside a user message."""

    type: Literal["image_url"]
    image_url: ImageUrl


Part = TextPart | RefusalPart | ImagePart


class FunctionCall(TypedDict):
    """A call of a function; `arguments` is a JSON object written as a string."""

    name: str
    arguments: str


class ToolCall(TypedDict):
    """A call of a tool, to be answered by a `tool` message of the same id."""

    id: str
    type: Literal["function"]
    function: FunctionCall


class FunctionSpec(TypedDict):
    """A function that the model may call; `parameters` is a JSON Schema."""

    name: str
    description: NotRequired[str]
    parameters: NotRequired[dict[str, Any]]
    strict: NotRequired[bool | None]


class Tool(TypedDict):
    """A tool that the model may call."""

    type: Literal["function"]
    function: FunctionSpec


class Message(TypedDict):
    """One message. `weight`, `refusal` and calls belong to assistant messages, `tool_call_id` to tool messages."""

    role: Role
    content: NotRequired[str | list[Part] | None]
    name: NotRequired[str]
    weight: NotRequired[float]
    refusal: NotRequired[str | None]
    tool_calls: NotRequired[list[ToolCall]]
    function_call: NotRequired[FunctionCall]
    tool_call_id: NotRequired[str]


class ChatExample(TypedDict):
    """A supervised example: the assistant's messages are trained on."""

    messages: list[Message]
    tools: NotRequired[list[Tool]]
    parallel_tool_calls: NotRequired[bool]
    functions: NotRequired[list[FunctionSpec]]


class PreferenceExample(TypedDict):
    """A preference pair: one prompt, a better and a worse last message."""

    input: ChatExample
    preferred_output: list[Message]
    non_preferred_output: list[Message]


class ReinforcementExample(ChatExample):
    """A prompt for reinforcement; all further keys are reference fields, which graders see as `item.*`."""


class CompletionExample(TypedDict):
    """A prompt/completion pair of the legacy format."""

    prompt: str
    completion: str


CHAT_KEYS = frozenset({"messages", "tools", "parallel_tool_calls", "functions"})
PREFERENCE_KEYS = frozenset({"input", "preferred_output", "non_preferred_output"})
INPUT_KEYS = frozenset({"messages", "tools", "parallel_tool_calls"})
MESSAGE_KEYS = frozenset({"role", "content", "name", "weight"})
KEYS_BY_ROLE = {
    "assistant": frozenset({"tool_calls", "function_call", "refusal"}),
    "tool": frozenset({"tool_call_id"}),
}
"""What a message of this role may have beside MESSAGE_KEYS."""

Format = Literal["chat", "preference", "completion", "unknown"]


def format_of(example: Any) -> Format:
    """Recognise the format of one example by its keys."""
    if not isinstance(example, dict):
        return "unknown"
    if "messages" in example:
        return "chat"
    if PREFERENCE_KEYS & example.keys():
        return "preference"
    if "prompt" in example or "completion" in example:
        return "completion"
    return "unknown"
