"""Collecting the issues of one line, with severity, remedy and the host's own words."""

from __future__ import annotations

from ftclient.data.reader import clean_text, pointer
from ftclient.data.report import Issue, Severity

WARNINGS = frozenset(
    {"blank_line", "content_blank", "duplicate_key", "image_examples_too_many", "too_long", "tool_arguments_mismatch"}
)
"""Codes that do not stop a training; all others are errors."""

HINTS = {
    "assistant_missing": "End the example with the assistant message that the model should learn to give.",
    "blank_line": "Delete the line.",
    "bom": "Save the file as UTF-8 without a byte order mark.",
    "content_blank": "Put text here, or delete the message.",
    "content_missing": "Put text here, or delete the message.",
    "duplicate_key": "Keep one of them.",
    "empty_messages": "Add at least a user and an assistant message.",
    "encoding": "Save the file as UTF-8.",
    "file_empty": "Write one JSON object a line.",
    "image_examples_too_many": "Leave examples with images out.",
    "image_format": "Convert the image to an RGB or RGBA JPEG, PNG or WebP.",
    "image_misplaced": "Images may stand in user messages of supervised and reinforcement examples only.",
    "image_too_large": "Scale the image down.",
    "image_too_many": "Remove images, or split the example.",
    "image_url_invalid": "Use an http(s) address or data:image/...;base64,... .",
    "json_syntax": "Write each example with a JSON library, one object a line, numbers finite.",
    "last_not_assistant": "End the example with an assistant message: what follows it is not trained.",
    "last_not_user": "End the prompt with a user message; the answer comes from the model.",
    "legacy_format": "Turn prompt and completion into a user and an assistant message: `ftclient convert FILE`.",
    "missing_key": "Add the key.",
    "mixed_formats": "Keep examples of one format in one file.",
    "not_an_object": 'Each line must be an object such as {"messages": [...]}.',
    "nothing_trained": "Give at least one assistant message a weight above 0, or drop the line.",
    "preference_identical": "Make the two outputs differ, or drop the line.",
    "preference_not_single_assistant": "Give each output as a list of exactly one assistant message.",
    "role_unknown": "Use system, developer, user, assistant, tool or function.",
    "special_token": "Take the control token out of the text.",
    "too_few_examples": "Add examples; 50 to 100 good ones are a sensible start.",
    "too_long": "Shorten the example or cut it at an earlier turn.",
    "tool_arguments_mismatch": "Make the arguments fit the tool's declared parameters.",
    "tool_arguments_not_json": "Write the arguments as a JSON object in a string.",
    "tool_call_unanswered": "Put a tool message with this id right after the call.",
    "tool_call_unknown": "Use the id of a call in the assistant message right before.",
    "tool_undefined": "Declare the function in `tools`, or correct its name.",
    "tools_invalid": "Correct the declaration of the tool.",
    "unknown_key": "Delete the key.",
    "weight_invalid": "Use 0 (do not train this message) or 1.",
    "weight_misplaced": "Only assistant messages have a weight; delete it.",
    "wrong_type": "Use the type that the format asks for.",
}
"""What to do about each code; every code of the checker is a key here."""

CODES = frozenset(HINTS)


class Findings:
    """The issues of one line, in the order found."""

    def __init__(self, line: int, *, too_long: Severity = "warning") -> None:
        self.line = line
        self.issues: list[Issue] = []
        self._too_long = too_long

    @property
    def has_errors(self) -> bool:
        """Whether anything so far stops a training."""
        return any(issue.severity == "error" for issue in self.issues)

    def add(self, code: str, path: str, message: str, *, hint: str | None = None, host: str | None = None) -> None:
        """Add an issue; `hint` replaces the usual remedy, `host` is OpenAI's wording (see `in_example`)."""
        self.issues.append(Issue(self.line, path, code, self._severity(code), message, hint or HINTS[code], host))

    def in_example(self, words: str) -> str:
        """OpenAI's sentence about this example; it counts examples from 1."""
        return f"Invalid file format. Example {self.line}{words}"

    def _severity(self, code: str) -> Severity:
        if code == "too_long":
            return self._too_long
        return "warning" if code in WARNINGS else "error"

    def missing(self, path: str, key: str, *, host: str | None = None, hint: str | None = None) -> None:
        """Add a missing_key at the place where the key belongs."""
        place = pointer(path, key)
        self.add("missing_key", place, f"The key `{key}` is missing.", hint=hint or f"Add `{key}`.", host=host)

    def wrong_type(self, path: str, value: object, wanted: str) -> None:
        """Add a wrong_type that names both types."""
        self.add("wrong_type", path, f"This is {type_name(value)}; {wanted} is needed.")


def type_name(value: object) -> str:
    """The JSON type of a value, with its article."""
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)


def quoted(text: object, *, limit: int = 40) -> str:
    """A short, printable quotation of a user's value, as JSON writes it."""
    if isinstance(text, str):
        return f'"{clean_text(text, limit=limit)}"'
    if text is None or isinstance(text, bool):
        return {None: "null", True: "true", False: "false"}[text]
    return clean_text(str(text), limit=limit)
