"""JSON Schemas of tools: whether they are any, and whether arguments fit them.

Schemas come with the data, so nothing in them may run for ever or reach out: regular expressions and `uniqueItems`
are not applied, remote references are not fetched, and after many references the question stays open.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from ftclient.data.findings import quoted

_DRAFTS = {
    "draft-04": "Draft4Validator",
    "draft-06": "Draft6Validator",
    "draft-07": "Draft7Validator",
    "2019-09": "Draft201909Validator",
}
"""Part of `$schema` -> jsonschema's class; all other schemas are read as 2020-12."""

_MAX_ARGUMENTS_CHARS = 100_000
_MAX_REFERENCES = 5_000
"""References followed for one call. Schemas that refer to themselves in several branches have no natural end."""


class _TooManyReferencesError(Exception):
    """The validation is given up."""


def schema_flaw(schema: Any) -> str | None:
    """Why this is no JSON Schema for the parameters of a function; None if it is one."""
    if not isinstance(schema, dict):
        return "The parameters must be a JSON Schema."
    if schema.get("type", "object") != "object":
        return 'The schema of the parameters must have "type": "object".'
    from jsonschema import SchemaError
    from referencing.exceptions import Unresolvable

    try:
        _draft(schema).check_schema(schema)
    except SchemaError as error:
        return f"The parameters are no valid JSON Schema: {quoted(error.message, limit=70)}."
    except (RecursionError, Unresolvable):
        return "The parameters are nested too deeply."
    return None


def arguments_mismatch(arguments: Any, schema: str, *, n_chars: int) -> str | None:
    """How arguments (`n_chars` long as text) break the declared schema; None if they fit or it cannot be told."""
    if '"patternProperties"' in schema or n_chars > _MAX_ARGUMENTS_CHARS:
        return None
    from referencing.exceptions import Unresolvable

    try:
        error = next(_validator(schema).iter_errors(arguments), None)
    except (RecursionError, Unresolvable, ValueError, ArithmeticError, _TooManyReferencesError):
        return None
    if error is None:
        return None
    where = "/".join(str(step) for step in error.absolute_path)
    return f"{quoted(where)}: {_in_words(error)}" if where else _in_words(error)


def _in_words(error: Any) -> str:
    if error.validator == "required" and isinstance(error.validator_value, list):
        absent = [key for key in error.validator_value if key not in error.instance]
        return f"{', '.join(quoted(key) for key in absent[:3])} is missing"
    if error.validator == "type":
        return f"must be of type {quoted(error.validator_value)}"
    if error.validator == "additionalProperties":
        extra = [key for key in error.instance if key not in error.schema.get("properties", {})]
        return f"{', '.join(quoted(key) for key in extra[:3])} is not declared"
    return f"breaks the rule {quoted(error.validator)}"


def _draft(schema: dict[str, Any]) -> Any:
    import jsonschema

    named = str(schema.get("$schema", ""))
    name = next((name for part, name in _DRAFTS.items() if part in named), "Draft202012Validator")
    return getattr(jsonschema, name)


def _validator(schema: str) -> Any:
    validator, n_followed = _validator_and_count(schema)
    n_followed[0] = 0
    return validator


@lru_cache(maxsize=256)
def _validator_and_count(schema: str) -> tuple[Any, list[int]]:
    """A validator and the number of references that it has followed since the number was set to 0."""
    from jsonschema.validators import extend
    from referencing import Registry

    parsed = json.loads(schema)
    draft = _draft(parsed)
    n_followed = [0]

    def follow(keyword: str) -> Any:
        original = draft.VALIDATORS.get(keyword, _ignore)

        def counted(*arguments: Any) -> Iterator[Any]:
            n_followed[0] += 1
            if n_followed[0] > _MAX_REFERENCES:
                raise _TooManyReferencesError
            yield from original(*arguments) or ()

        return counted

    rules = {"pattern": _ignore, "uniqueItems": _ignore, "$ref": follow("$ref"), "$dynamicRef": follow("$dynamicRef")}
    harmless: Any = extend(draft, rules)  # type: ignore[no-untyped-call]  # its stub lacks types
    return harmless(parsed, registry=Registry()), n_followed


def _ignore(*_: object) -> Iterator[Any]:
    return iter(())
