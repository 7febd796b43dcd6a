"""Rules for tool calls: each names a declared function, has JSON arguments and gets its answer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ftclient.data.check_schemas import arguments_mismatch
from ftclient.data.findings import Findings, quoted


def check_calls(found: Findings, messages: Any, path: str, schemas: Mapping[str, str | None]) -> None:
    """Check all calls of a conversation and that each is answered right after it."""
    if not isinstance(messages, list):
        return
    waiting: dict[str, str] = {}
    """Ids of calls that have no answer yet, with the pointers to the calls."""
    for i, message in enumerate(messages):
        if not isinstance(message, dict):
            continue
        place = f"{path}/{i}"
        if message.get("role") == "tool":
            _check_answer(found, message, place, waiting)
            continue
        _report_unanswered(found, waiting)
        waiting = _check_calls_of(found, message, place, schemas)
    if not _ends_in_call(messages):
        _report_unanswered(found, waiting)


def _ends_in_call(messages: list[Any]) -> bool:
    last = messages[-1] if messages else None
    return isinstance(last, dict) and last.get("role") != "tool"


def _report_unanswered(found: Findings, waiting: Mapping[str, str]) -> None:
    for call_id, place in waiting.items():
        found.add("tool_call_unanswered", place, f"No tool message answers the call {quoted(call_id)}.")


def _check_answer(found: Findings, message: Mapping[str, Any], path: str, waiting: dict[str, str]) -> None:
    call_id = message.get("tool_call_id")
    if "tool_call_id" not in message:
        found.missing(path, "tool_call_id")
    elif not isinstance(call_id, str):
        found.wrong_type(f"{path}/tool_call_id", call_id, "a string")
    elif waiting.pop(call_id, None) is None:
        what = f"No call right before has the id {quoted(call_id)}, or it was answered already."
        found.add("tool_call_unknown", f"{path}/tool_call_id", what)


def _check_calls_of(
    found: Findings, message: Mapping[str, Any], path: str, schemas: Mapping[str, str | None]
) -> dict[str, str]:
    """Check the calls of one message; returns the ids that now wait for an answer."""
    role = message.get("role")  # of any type, so it may not fit into a set
    if role is not None and role != "assistant":
        return {}
    if message.get("function_call") is not None:
        _check_function(found, message["function_call"], f"{path}/function_call", schemas)
    calls = message.get("tool_calls")
    if calls is None:
        return {}
    if not isinstance(calls, list):
        found.wrong_type(f"{path}/tool_calls", calls, "a list of calls")
        return {}
    return dict(_check_each(found, calls, f"{path}/tool_calls", schemas))


def _check_each(
    found: Findings, calls: list[Any], path: str, schemas: Mapping[str, str | None]
) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for i, call in enumerate(calls):
        place = f"{path}/{i}"
        if not isinstance(call, dict):
            found.wrong_type(place, call, "an object with id, type and function")
            continue
        call_id = call.get("id")
        if "id" not in call:
            found.missing(place, "id")
        elif not isinstance(call_id, str) or not call_id:
            found.wrong_type(f"{place}/id", call_id, "a string that is not empty")
        elif call_id in seen:
            found.add("tool_call_unknown", f"{place}/id", "Two calls have this id.", hint="Give each call its own id.")
        else:
            seen.add(call_id)
            yield call_id, place
        _check_call(found, call, place, schemas)


def _check_call(found: Findings, call: Mapping[str, Any], path: str, schemas: Mapping[str, str | None]) -> None:
    if "type" not in call:
        found.missing(path, "type")
    elif call["type"] != "function":
        found.add("wrong_type", f"{path}/type", 'The type of a call must be "function".')
    if "function" not in call:
        found.missing(path, "function")
    else:
        _check_function(found, call["function"], f"{path}/function", schemas)


def _check_function(found: Findings, function: Any, path: str, schemas: Mapping[str, str | None]) -> None:
    if not isinstance(function, dict):
        found.wrong_type(path, function, "an object with name and arguments")
        return
    name = function.get("name")
    if "name" not in function:
        found.missing(path, "name")
    elif not isinstance(name, str):
        found.wrong_type(f"{path}/name", name, "a string")
    elif name not in schemas:
        found.add("tool_undefined", f"{path}/name", f"No tool is called {quoted(name)}.")
    if "arguments" not in function:
        found.missing(path, "arguments")
    elif not isinstance(function["arguments"], str):
        found.wrong_type(f"{path}/arguments", function["arguments"], "a string that holds JSON")
    else:
        schema = schemas.get(name) if isinstance(name, str) else None
        _check_arguments(found, function["arguments"], f"{path}/arguments", schema)


def _check_arguments(found: Findings, text: str, path: str, schema: str | None) -> None:
    try:
        arguments = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", "it is nested too deeply or has a number that is none")
        found.add("tool_arguments_not_json", path, f"The arguments are not JSON: {reason}.")
        return
    if not isinstance(arguments, dict):
        found.add("tool_arguments_mismatch", path, "The arguments are JSON, but no object.")
    elif schema is not None:
        mismatch = arguments_mismatch(arguments, schema, n_chars=len(text))
        if mismatch:
            found.add("tool_arguments_mismatch", path, f"The arguments do not fit the tool: {mismatch}.")


def _refuse(name: str) -> None:
    raise ValueError(name)
