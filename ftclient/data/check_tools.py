"""Rules for tools: declarations, calls and answers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from ftclient.data.check_schemas import schema_flaw
from ftclient.data.findings import Findings, quoted

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_NAME_RULE = "A name has 1 to 64 letters, digits, _ and -."
_CACHED_CHARS = 50_000


class _Flaw(NamedTuple):
    path: str
    message: str
    hint: str | None = None


class Declared(NamedTuple):
    """What an example's `tools` and `functions` say. `schemas` maps each name to its parameters' JSON text."""

    flaws: tuple[_Flaw, ...] = ()
    schemas: Mapping[str, str | None] = {}


def check_tools(found: Findings, example: Mapping[str, Any], path: str) -> Mapping[str, str | None]:
    """Check the declarations of an example; returns the declared names with their schemas as JSON text."""
    schemas: dict[str, str | None] = {}
    for key, is_wrapped in (("tools", True), ("functions", False)):
        if key not in example:
            continue
        if not isinstance(example[key], list):
            found.wrong_type(f"{path}/{key}", example[key], "a list of declarations")
            continue
        declared = _declared(json.dumps(example[key]), is_wrapped)
        for flaw in declared.flaws:
            found.add("tools_invalid", f"{path}/{key}{flaw.path}", flaw.message, hint=flaw.hint)
        schemas.update(declared.schemas)
    if "parallel_tool_calls" in example and not isinstance(example["parallel_tool_calls"], bool):
        found.wrong_type(f"{path}/parallel_tool_calls", example["parallel_tool_calls"], "true or false")
    return schemas


def _declared(tools: str, is_wrapped: bool) -> Declared:  # noqa: FBT001  one of two keys, called above only
    """Data sets repeat their tools on each line, so a declaration of usual size is looked at once."""
    return _declared_once(tools, is_wrapped) if len(tools) < _CACHED_CHARS else _look_at(tools, is_wrapped)


@lru_cache(maxsize=128)
def _declared_once(tools: str, is_wrapped: bool) -> Declared:  # noqa: FBT001
    return _look_at(tools, is_wrapped)


def _look_at(tools: str, is_wrapped: bool) -> Declared:  # noqa: FBT001
    flaws: list[_Flaw] = []
    schemas: dict[str, str | None] = {}
    for i, tool in enumerate(json.loads(tools)):
        path = f"/{i}"
        function = tool
        if is_wrapped:
            flaws += _wrapping_flaws(tool, path)
            function = tool.get("function") if isinstance(tool, dict) else None
            path += "/function"
        if isinstance(function, dict):
            flaws += _function_flaws(function, path, schemas)
        elif not is_wrapped:
            flaws.append(_Flaw(path, "A function must be an object with a name."))
    return Declared(tuple(flaws), schemas)


def _wrapping_flaws(tool: Any, path: str) -> Iterator[_Flaw]:
    if not isinstance(tool, dict):
        yield _Flaw(path, 'A tool must be an object such as {"type": "function", "function": {...}}.')
        return
    if tool.get("type") != "function":
        yield _Flaw(f"{path}/type", 'The type of a tool must be "function".', 'Set "type" to "function".')
    if not isinstance(tool.get("function"), dict):
        yield _Flaw(f"{path}/function", "A tool must have an object `function` with a name.")


def _function_flaws(function: Mapping[str, Any], path: str, schemas: dict[str, str | None]) -> Iterator[_Flaw]:
    name = function.get("name")
    if not isinstance(name, str) or not _NAME.match(name):
        what = f"{quoted(name)} is no name of a function." if "name" in function else "The function has no name."
        yield _Flaw(f"{path}/name", what, _NAME_RULE)
    elif name in schemas:
        yield _Flaw(f"{path}/name", f"{quoted(name)} is declared twice.", "Keep one declaration.")
    if not isinstance(function.get("description", ""), str):
        yield _Flaw(f"{path}/description", "The description must be a string.")
    parameters = function.get("parameters")
    flaw = schema_flaw(parameters) if parameters is not None else None
    if flaw:
        yield _Flaw(f"{path}/parameters", flaw, "Give `parameters` as a JSON Schema of type object.")
    if isinstance(name, str) and name not in schemas:
        schemas[name] = None if flaw or parameters is None else json.dumps(parameters)
