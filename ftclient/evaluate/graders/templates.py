"""`{{ item.x }}` and `{{ sample.output_text }}` in the texts of graders."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

_PLACE = re.compile(r"\{\{((?:(?!\{\{|\}\}).)*)\}\}", re.DOTALL)
"""Stops at the next braces, so that a text of many open ones takes time in proportion to its length."""
_PATH = re.compile(r"(?P<root>item|sample)(?P<rest>(?:\.[^.\[\]{}\s]+|\[\d+\]|\[['\"][^'\"\]]+['\"]\])+)")
_STEP = re.compile(r"\.(?P<key>[^.\[\]]+)|\[(?P<index>\d+)\]|\[['\"](?P<quoted>[^'\"\]]+)['\"]\]")

TemplateFault = Literal["invalid_variable_error", "sample_parse_error"]


class TemplateError(ValueError):
    """A place in a text that cannot be filled. `fault` is the flag that OpenAI's API has for it."""

    def __init__(self, message: str, fault: TemplateFault = "invalid_variable_error") -> None:
        super().__init__(message, fault)
        self.message = message
        self.fault = fault

    def __str__(self) -> str:
        """Return the text alone."""
        return self.message


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What a model answered, as graders see it."""

    text: str
    tool_calls: Sequence[Mapping[str, Any]] = field(default=())
    """Calls of tools in the shape of chat completions."""

    def namespace(self) -> dict[str, Any]:
        """The variables behind `sample.`; `output_json` only if the text is JSON."""
        message = {"role": "assistant", "content": self.text, "tool_calls": list(self.tool_calls) or None}
        found: dict[str, Any] = {
            "output_text": self.text,
            "output_tools": list(self.tool_calls),
            "choices": [{"index": 0, "message": message}],
        }
        with suppress(ValueError, RecursionError):
            found["output_json"] = json.loads(self.text)
        return found


def variables_of(text: str) -> list[str]:
    """Return the variables that a text names.

    Raises:
        TemplateError: One of them is no variable of `item` or `sample`.
    """
    found = [match[1].strip() for match in _PLACE.finditer(text)]
    for name in found:
        if not _PATH.fullmatch(name):
            raise TemplateError(
                f"'{{{{ {name[:40]} }}}}' is no variable: write {{{{ item.field }}}} or {{{{ sample.output_text }}}}"
            )
    return found


def fill(text: str, *, item: Mapping[str, Any], sample: Mapping[str, Any] | None) -> str:
    """Return the text with its variables filled in; values that are not text become JSON.

    Args:
        text: Text with `{{ ... }}`.
        item: The example's fields.
        sample: `Sample.namespace()`; None while there is no answer yet, whose places stay empty.

    Raises:
        TemplateError: A variable is not there.
    """
    variables_of(text)
    roots = {"item": item, "sample": sample}
    return _PLACE.sub(lambda match: _shown(_value(match[1].strip(), roots)), text)


def _value(name: str, roots: Mapping[str, Mapping[str, Any] | None]) -> Any:
    root = "item" if name.startswith("item") else "sample"
    rest = name[len(root) :]
    value: Any = roots[root]
    if value is None:
        return ""
    step = None
    try:
        for step in _STEP.finditer(rest):
            value = value[int(step["index"])] if step["index"] else value[step["key"] or step["quoted"]]
    except (KeyError, IndexError, TypeError) as error:
        raise _missing(name, root, step.start() if step else 0, rest) from error
    return value


def _missing(name: str, root: str, at: int, rest: str) -> TemplateError:
    if root == "sample" and at == 0 and rest.startswith(".output_json"):
        return TemplateError("the answer is not JSON, so there is no sample.output_json", "sample_parse_error")
    return TemplateError(f"there is no {name[:80]!r} in this example or its answer")


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
