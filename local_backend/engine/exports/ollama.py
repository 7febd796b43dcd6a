"""An Ollama Modelfile for an exported GGUF: how it writes a conversation, and where answers end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from local_backend.engine.exports.dates import still
from local_backend.engine.template import Template
from local_backend.task import UserError

_MARKS = {"system": "\u2460", "user": "\u2461", "assistant": "\u2462", "again": "\u2463"}
"""Stand-ins for messages; characters that no chat template writes or treats specially."""
_CONVERSATIONS = (("system", "user", "assistant", "again"), ("user",), ("user", "assistant", "again"))
"""Those on which what Ollama will write is compared with what the chat template writes."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """What a chat template puts around messages."""

    around: dict[str, tuple[str, str]]
    """By role: the text before and after a message's content."""
    opening: str
    """What an answer is opened with."""
    head: str = ""
    """What every conversation begins with, once: BOS, where the model wants it."""
    standard_system: str | None = None
    """The system message that is written where none is given."""
    alone: str = ""
    """What is written in its place where that is no system message around a text."""


def modelfile(template: Template, *, gguf_name: str) -> str:
    """Return the Modelfile for a GGUF file beside it.

    Where the chat template is not a frame around each message, TEMPLATE is left to Ollama, which knows many. One that
    writes today's date gets a date that stays, and a comment on it.
    """
    lines = [f"FROM ./{gguf_name}"]
    undated, note = still(template)
    frame = frame_of(undated)
    if frame is not None:
        lines += [f"# {note}"] if note else []
        lines.append(f'TEMPLATE """{go_template(frame)}"""')
        if frame.standard_system:
            lines.append(f'SYSTEM """{frame.standard_system}"""')
    tokenizer = template.tokenizer
    stops = tokenizer.convert_ids_to_tokens(sorted(template.stop_ids))
    lines += [f'PARAMETER stop "{stop}"' for stop in stops]
    return "\n".join(lines) + "\n"


def frame_of(template: Template) -> Frame | None:
    """Find what the template writes around messages by rendering marks; None if it is not the same for each."""
    try:
        asked = {roles: _asked(template, roles) for roles in _CONVERSATIONS}
    except UserError:
        return None
    whole, bare = asked[_CONVERSATIONS[0]], asked[_CONVERSATIONS[1]]
    closed = _closed(template, _CONVERSATIONS[0])
    marks = list(_MARKS.values())
    if any(whole.count(mark) != 1 for mark in marks) or not whole.startswith(closed) or _MARKS["user"] not in bare:
        return None
    led, bos = bare[: bare.index(_MARKS["user"])], template.tokenizer.bos_token or ""
    # Some models' BOS is what each message begins with.
    once = bos if whole.count(bos) == 1 else ""
    frame = _frame(_gaps(closed, marks), whole[len(closed) :], led, bos=once)
    is_right = frame is not None and all(_written(frame, roles) == text for roles, text in asked.items())
    return frame if is_right else None


def go_template(frame: Frame) -> str:
    """Return the frame in Ollama's template language.

    In one line but for the frame's own line ends: every space and line end outside of braces is part of the prompt.
    """
    branches = "{{ else }}".join(
        f'{{{{ if eq .Role "{role}" }}}}{frame.around[role][0]}{{{{ .Content }}}}{frame.around[role][1]}'
        for role in ("system", "user", "assistant")
    ).replace("{{ else }}{{ if", "{{ else if")
    alone = f"{{{{ if not .System }}}}{frame.alone}{{{{ end }}}}" if frame.alone else ""
    return f"{frame.head}{alone}{{{{ range .Messages }}}}{branches}{{{{ end }}}}{{{{ end }}}}{frame.opening}"


def _asked(template: Template, roles: Sequence[str]) -> str:
    return str(template.tokenizer.decode(template.prompt(_messages(roles))))


def _closed(template: Template, roles: Sequence[str]) -> str:
    """The same without what opens an answer."""
    tokenizer = template.tokenizer
    return str(tokenizer.apply_chat_template(_messages(roles), tokenize=False, add_generation_prompt=False))


def _messages(roles: Sequence[str]) -> list[dict[str, str]]:
    return [{"role": _role(role), "content": _MARKS[role]} for role in roles]


def _role(name: str) -> str:
    return "user" if name == "again" else name


def _gaps(text: str, marks: list[str]) -> list[str]:
    gaps, start = [], 0
    for mark in marks:
        place = text.index(mark, start)
        gaps.append(text[start:place])
        start = place + len(mark)
    return [*gaps, text[start:]]


def _frame(gaps: list[str], opening: str, led: str, *, bos: str) -> Frame | None:
    """Split each gap between two messages into the end of one and the beginning of the next.

    An answer begins as it is opened, and both user messages have the same text around them. `led` is what comes before
    the text of a user's message that is the first one.
    """
    before_system, system_user, user_assistant, assistant_user, after_user = gaps
    if not user_assistant.endswith(opening) or not opening:
        return None
    user_end = user_assistant.removesuffix(opening)
    if after_user != user_end:
        return None
    shared = _shared_end(system_user, assistant_user)
    # What follows a system message and an answer is the end of each, then the beginning of a user's message.
    user_begin = shared[shared.find(user_end) + len(user_end) :] if user_end and user_end in shared else shared
    system_end, answer_end = system_user.removesuffix(user_begin), assistant_user.removesuffix(user_begin)
    led = led.removesuffix(user_begin)
    head = _head(before_system, led, bos)
    system_begin, rest = before_system.removeprefix(head), led.removeprefix(head)
    standard = _standard_system(rest, system_begin, system_end)
    around = {
        "system": (system_begin, system_end),
        "user": (user_begin, user_end),
        "assistant": (opening, answer_end),
    }
    alone = "" if standard else rest
    return Frame(around=around, opening=opening, head=head, standard_system=standard, alone=alone)


def _head(before_system: str, led: str, bos: str) -> str:
    """What every conversation begins with, given how one with a system message and one without begin."""
    if before_system.startswith(led):
        return led
    return bos if before_system.startswith(bos) and led.startswith(bos) else ""


def _standard_system(text: str, before: str, after: str) -> str | None:
    if not (text.startswith(before) and text.endswith(after)) or len(text) <= len(before) + len(after):
        return None
    return text[len(before) : len(text) - len(after)]


def _written(frame: Frame, roles: Sequence[str]) -> str:
    """What Ollama makes of the frame; the standard system message comes first where none is given."""
    said = [(_role(role), _MARKS[role]) for role in roles]
    has_system = "system" in roles
    if frame.standard_system and not has_system:
        said.insert(0, ("system", frame.standard_system))
    messages = "".join(frame.around[role][0] + text + frame.around[role][1] for role, text in said)
    return frame.head + ("" if has_system else frame.alone) + messages + frame.opening


def _shared_end(one: str, other: str) -> str:
    length = 0
    while length < min(len(one), len(other)) and one[-1 - length] == other[-1 - length]:
        length += 1
    return one[len(one) - length :]
