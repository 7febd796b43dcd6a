"""The body of a chat completion: what is obeyed, what changes nothing, and what is refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator
from typing_extensions import Self

from local_backend.api.bodies import Body
from local_backend.api.errors import ApiError
from local_backend.task import ChatRequest


class ImageUrl(Body):
    """Where an image is: a data URL, or the id of its file."""

    model_config = ConfigDict(extra="allow")
    url: str


class ContentPart(Body):
    """A piece of a message; the engine says which kinds its model reads."""

    model_config = ConfigDict(extra="allow")
    type: Literal["text", "refusal", "image_url", "input_audio", "file"]
    text: str | None = None
    refusal: str | None = None
    image_url: ImageUrl | None = None

    @model_validator(mode="after")
    def _has_content(self) -> Self:
        if self.type in ("text", "refusal", "image_url") and getattr(self, self.type) is None:
            raise ValueError(f"A part of the type '{self.type}' must have '{self.type}'")
        return self


class FunctionCall(Body):
    """What an earlier answer called."""

    name: str
    arguments: str


class ToolCall(Body):
    """A call of an earlier answer, as it came from the API."""

    id: str | None = None
    type: Literal["function"] = "function"
    index: int | None = None
    function: FunctionCall


class ChatMessage(Body):
    """One message."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | Annotated[list[ContentPart], Field(min_length=1)] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    function_call: FunctionCall | None = None
    tool_call_id: str | None = None
    refusal: str | None = None
    weight: float | None = None
    audio: dict[str, Any] | None = None
    annotations: list[Any] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.content is None and self.role not in ("assistant", "function"):
            raise ValueError(f"'content' of a {self.role} message must be a string or an array, not null")
        return self


class StreamOptions(Body):
    """How a stream is to be sent."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


Stop = str | Annotated[list[str], Field(max_length=4)] | None


class CreateChat(Body):
    """What this server obeys of the body; the rest is looked at by `refuse_unsupported` before."""

    model: Annotated[str, Field(min_length=1)]
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    stop: Stop = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Literal["auto", "none"] | None = None
    parallel_tool_calls: bool | None = None

    def to_request(self) -> ChatRequest:
        """The request as engines take it, defaults filled in.

        Raises:
            ApiError: Fields contradict each other.
        """
        if self.top_logprobs is not None and not self.logprobs:
            raise ApiError("'top_logprobs' needs 'logprobs': true.", param="top_logprobs", code="invalid_value")
        if self.stream_options is not None and not self.stream:
            raise ApiError("'stream_options' needs 'stream': true.", param="stream_options", code="invalid_value")
        limits = [limit for limit in (self.max_tokens, self.max_completion_tokens) if limit is not None]
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return ChatRequest(
            messages=[message.model_dump(exclude_none=True) for message in self.messages],
            tools=[] if self.tool_choice == "none" else self.tools or [],
            max_tokens=min(limits) if limits else None,
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            stop=[text for text in stop if text],
            n=self.n or 1,
            seed=self.seed,
            top_logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            parallel_tool_calls=self.parallel_tool_calls is not False,
        )


_IGNORED = frozenset(
    {"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"}
)
"""Fields that say something about bookkeeping at OpenAI and nothing about the answer."""

_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "reasoning_effort": ("none",),
    "verbosity": ("medium",),
    "function_call": ("none", "auto"),
    "functions": ([],),
}
"""Fields that are taken at values which change nothing, and refused at others: they are not obeyed here."""


def refuse_unsupported(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body without fields that change nothing.

    Raises:
        ApiError: A field would be ignored although it means something.
    """
    kept: dict[str, Any] = {}
    for name, value in body.items():
        if name in _IGNORED or (name in _NEUTRAL and (value is None or value in _NEUTRAL[name])):
            continue
        if name in _NEUTRAL or (name in _UNSUPPORTED and value is not None):
            text = f"'{name}' is not supported here: remove it, or leave it at its default."
            raise ApiError(text, param=name, code="unsupported_parameter")
        if name not in _UNSUPPORTED:
            kept[name] = value
    return kept


_UNSUPPORTED = frozenset({"audio", "prediction", "web_search_options", "moderation", "prompt_cache_options"})
