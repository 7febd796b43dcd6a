"""`/v1/chat/completions`: answers of base and tuned models, whole or as a stream."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar
from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from local_backend.api.backend import Backend, Here
from local_backend.api.chat_requests import CreateChat, refuse_unsupported
from local_backend.api.errors import ApiError, error_body, to_api_error
from local_backend.api.tool_calls import CallReader
from local_backend.names import new_id
from local_backend.store.database import now
from local_backend.task import Answer, ChatRequest, Delta, TokenLogprob

router = APIRouter(prefix="/v1/chat")


_MOST_WAITERS = 1_000
"""Threads that wait for pieces of answers. They have room of their own: forty answers at once would otherwise take all
threads of the server, and nothing else would be heard until one of them moves."""
_limiter: RunVar[anyio.CapacityLimiter] = RunVar("_limiter")


def _waiters() -> anyio.CapacityLimiter:
    """The room for waiting threads of this event loop."""
    try:
        return _limiter.get()
    except LookupError:
        _limiter.set(made := anyio.CapacityLimiter(_MOST_WAITERS))
        return made


@dataclass(frozen=True)
class _Head:
    """What every chunk of an answer says about itself."""

    model: str
    fingerprint: str
    id: str = field(default_factory=lambda: new_id("chatcmpl-"))
    created: int = field(default_factory=now)

    def fields(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "service_tier": "default",
            "system_fingerprint": self.fingerprint,
        }


@router.post("/completions")
async def create(request: Request, here: Here) -> Response:
    """Answer a conversation."""
    body = _parse(await _json_object(request))
    chat = body.to_request()
    answer = await run_in_threadpool(_start, here, body.model, chat)
    head = _Head(model=body.model, fingerprint=_fingerprint(here))
    if not body.stream:
        return JSONResponse(await _whole(request, head, answer, chat))
    with_usage = bool(body.stream_options and body.stream_options.include_usage)
    deltas = _Deltas(answer)
    return _EventStream(deltas, _stream(head, answer, deltas, chat, with_usage=with_usage))


async def _json_object(request: Request) -> dict[str, Any]:
    try:
        body = await request.json()
        json.dumps(body, ensure_ascii=False).encode()  # halves of surrogate pairs are no text
    except (ValueError, RecursionError) as error:
        raise ApiError("We could not parse the JSON body of your request.") from error
    if not isinstance(body, dict):
        raise ApiError("The body must be a JSON object.")
    return body


def _parse(body: dict[str, Any]) -> CreateChat:
    try:
        return CreateChat.model_validate(refuse_unsupported(body))
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from error


def _start(here: Backend, model: str, chat: ChatRequest) -> Answer:
    here.files.put_images({"messages": chat.messages})
    return here.engine(model).chat(here.find_model(model), chat)


def _fingerprint(here: Backend) -> str:
    return "fp_" + hashlib.sha256(here.settings.engine.encode()).hexdigest()[:10]


class _Deltas:
    """The deltas of an answer, pulled in threads. It can be ended from anywhere, in the middle of a pull too."""

    def __init__(self, answer: Answer) -> None:
        self._deltas = answer.deltas
        self._lock = threading.Lock()
        self._ended = False

    async def __aiter__(self) -> AsyncIterator[Delta]:
        """Yield the deltas as they come."""
        while (delta := await anyio.to_thread.run_sync(self.pull, limiter=_waiters())) is not None:
            yield delta

    def pull(self) -> Delta | None:
        """Wait for the next delta; None: there is none."""
        with self._lock:
            delta = None if self._ended else next(self._deltas, None)
        if self._ended:
            self.end()
        return delta

    def end(self) -> None:
        """End the generation now, or when the pull that is under way returns."""
        self._ended = True
        if self._lock.acquire(blocking=False):
            try:
                close = getattr(self._deltas, "close", lambda: None)
                close()
            finally:
                self._lock.release()


class _EventStream(StreamingResponse):
    """Server-sent events; whatever ends them, a client that hangs up above all, ends the generation."""

    media_type = "text/event-stream"

    def __init__(self, deltas: _Deltas, events: AsyncIterator[bytes]) -> None:
        super().__init__(events)
        self._deltas = deltas

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._deltas.end()


async def _whole(request: Request, head: _Head, answer: Answer, chat: ChatRequest) -> dict[str, Any]:
    """Collect the answer; a client that hangs up ends it."""
    deltas = _Deltas(answer)
    try:
        return await _collected(request, head, answer, deltas, chat)
    finally:
        deltas.end()


async def _collected(
    request: Request, head: _Head, answer: Answer, deltas: _Deltas, chat: ChatRequest
) -> dict[str, Any]:
    texts: dict[int, str] = defaultdict(str)
    logprobs: dict[int, list[TokenLogprob]] = defaultdict(list)
    reasons: dict[int, str] = {}
    n_tokens = 0
    async with anyio.create_task_group() as group:
        group.start_soon(_cancel_on_hangup, request, group.cancel_scope)
        async for delta in deltas:
            texts[delta.index] += delta.text
            logprobs[delta.index] += delta.logprobs
            n_tokens += delta.n_tokens
            if delta.finish_reason is not None:
                reasons[delta.index] = delta.finish_reason
        group.cancel_scope.cancel()
    choices = [
        {
            "index": index,
            **_message(texts[index], reasons.get(index, "stop"), chat),
            "logprobs": _show_logprobs(logprobs[index], chat),
        }
        for index in range(chat.n)
    ]
    return {**head.fields("chat.completion"), "choices": choices, "usage": _usage(answer, n_tokens)}


def _message(text: str, reason: str, chat: ChatRequest) -> dict[str, Any]:
    """The message of one choice, and why it ends."""
    reader = CallReader(chat.tools, calls_many=chat.parallel_tool_calls)
    said = reader.feed(text)
    rest, calls = reader.end()
    message: dict[str, Any] = {"role": "assistant", "content": said + rest, "refusal": None, "annotations": []}
    if calls:
        message = {**message, "content": said.strip() or None, "tool_calls": calls}
    return {"message": message, "finish_reason": _reason(reason, calls)}


def _reason(reason: str, calls: Sequence[Any]) -> str:
    return "tool_calls" if calls and reason == "stop" else reason


async def _cancel_on_hangup(request: Request, scope: anyio.CancelScope) -> None:
    while not await request.is_disconnected():  # noqa: ASYNC110 - starlette has no event for it
        await anyio.sleep(0.5)
    scope.cancel()


async def _stream(
    head: _Head, answer: Answer, deltas: _Deltas, chat: ChatRequest, *, with_usage: bool
) -> AsyncIterator[bytes]:
    """Yield server-sent events: a chunk with the role for each choice, the text, the end, the usage if wanted."""
    usage: dict[str, Any] = {"usage": None} if with_usage else {}
    fields = {**head.fields("chat.completion.chunk"), **usage}
    n_tokens = 0
    readers = [CallReader(chat.tools, calls_many=chat.parallel_tool_calls) for _ in range(chat.n)]
    try:
        for index in range(chat.n):
            yield _event(fields, [_chunk_choice(index, {"role": "assistant", "content": "", "refusal": None})])
        async for delta in deltas:
            n_tokens += delta.n_tokens
            for choice in _chunk_choices(delta, chat, readers[delta.index]):
                yield _event(fields, [choice])
        if with_usage:
            yield _event({**fields, "usage": _usage(answer, n_tokens)}, [])
    except Exception as error:  # noqa: BLE001 - the answer has begun: its status can no longer say so
        yield b"data: " + json.dumps(error_body(to_api_error(error))).encode() + b"\n\n"
        return
    yield b"data: [DONE]\n\n"


def _event(fields: dict[str, Any], choices: list[dict[str, Any]]) -> bytes:
    chunk = {**fields, "choices": choices}
    return b"data: " + json.dumps(chunk, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def _chunk_choices(delta: Delta, chat: ChatRequest, reader: CallReader) -> Iterator[dict[str, Any]]:
    said = reader.feed(delta.text)
    if said or delta.logprobs:
        yield _chunk_choice(delta.index, {"content": said}, logprobs=_show_logprobs(delta.logprobs, chat))
    if delta.finish_reason is not None:
        rest, calls = reader.end()
        if rest:
            yield _chunk_choice(delta.index, {"content": rest})
        if calls:
            numbered = [{"index": number, **call} for number, call in enumerate(calls)]
            yield _chunk_choice(delta.index, {"tool_calls": numbered})
        yield _chunk_choice(delta.index, {}, finish_reason=_reason(delta.finish_reason, calls))


def _chunk_choice(
    index: int, delta: dict[str, Any], *, logprobs: dict[str, Any] | None = None, finish_reason: str | None = None
) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}


def _show_logprobs(tokens: Sequence[TokenLogprob], chat: ChatRequest) -> dict[str, Any] | None:
    if chat.top_logprobs is None:
        return None
    content = [
        {
            "token": token.token,
            "logprob": token.logprob,
            "bytes": list(token.bytes),
            "top_logprobs": [
                {"token": text, "logprob": logprob, "bytes": list(data)} for text, logprob, data in token.top
            ],
        }
        for token in tokens
    ]
    return {"content": content, "refusal": None}


def _usage(answer: Answer, n_tokens: int) -> dict[str, Any]:
    prompt = answer.n_prompt_tokens
    return {"prompt_tokens": prompt, "completion_tokens": n_tokens, "total_tokens": prompt + n_tokens}
