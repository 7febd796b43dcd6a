"""An Ollama Modelfile for an exported GGUF: how it writes a conversation, and where answers end."""

from __future__ import annotations

from dataclasses import dataclass

from local_backend.engine.template import Template
from local_backend.task import UserError

_MARKS = {"system": "\u2460", "user": "\u2461", "assistant": "\u2462", "again": "\u2463"}
"""Stand-ins for messages; characters that no chat template writes or treats specially."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """What a chat template puts around messages."""

    around: dict[str, tuple[str, str]]
    """By role: the text before and after a message's content."""
    opening: str
    """What an answer is opened with."""
    standard_system: str | None
    """The system message that is written where none is given."""


def modelfile(template: Template, *, gguf_name: str) -> str:
    """Return the Modelfile for a GGUF file beside it.

    Where the chat template is not a frame around each message, TEMPLATE is left to Ollama, which knows many.
    """
    lines = [f"FROM ./{gguf_name}"]
    frame = frame_of(template)
    if frame is not None:
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
        whole = _text(template, ["system", "user", "assistant", "again"], opens_answer=True)
        closed = _text(template, ["system", "user", "assistant", "again"])
        bare = _text(template, ["user"])
    except UserError:
        return None
    marks = list(_MARKS.values())
    if any(whole.count(mark) != 1 for mark in marks) or not whole.startswith(closed):
        return None
    opening = whole[len(closed) :]
    gaps = _gaps(closed, marks)
    frame = _frame(gaps, opening, bare)
    return frame if frame is not None and _rebuilt(frame, marks) == closed else None


def go_template(frame: Frame) -> str:
    """Return the frame in Ollama's template language.

    In one line but for the frame's own line ends: every space and line end outside of braces is part of the prompt.
    """
    branches = "{{ else }}".join(
        f'{{{{ if eq .Role "{role}" }}}}{frame.around[role][0]}{{{{ .Content }}}}{frame.around[role][1]}'
        for role in ("system", "user", "assistant")
    ).replace("{{ else }}{{ if", "{{ else if")
    return f"{{{{ range .Messages }}}}{branches}{{{{ end }}}}{{{{ end }}}}{frame.opening}"


def _text(template: Template, roles: list[str], *, opens_answer: bool = False) -> str:
    messages = [{"role": "user" if role == "again" else role, "content": _MARKS[role]} for role in roles]
    ids = template.prompt(messages) if opens_answer else None
    tokenizer = template.tokenizer
    if ids is not None:
        return str(tokenizer.decode(ids))
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=False))


def _gaps(text: str, marks: list[str]) -> list[str]:
    gaps, start = [], 0
    for mark in marks:
        place = text.index(mark, start)
        gaps.append(text[start:place])
        start = place + len(mark)
    return [*gaps, text[start:]]


def _frame(gaps: list[str], opening: str, bare: str) -> Frame | None:
    """Split each gap between two messages into the end of one and the beginning of the next.

    An answer begins as it is opened, and both user messages have the same text around them.
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
    standard = _standard_system(bare, before_system, system_end, user_begin)
    around = {
        "system": (before_system, system_end),
        "user": (user_begin, user_end),
        "assistant": (opening, answer_end),
    }
    return Frame(around=around, opening=opening, standard_system=standard)


def _standard_system(bare: str, before: str, after: str, user_begin: str) -> str | None:
    head = bare[: bare.index(_MARKS["user"])].removesuffix(user_begin)
    if not (head.startswith(before) and head.endswith(after)) or len(head) <= len(before) + len(after):
        return None
    return head[len(before) : len(head) - len(after)]


def _rebuilt(frame: Frame, marks: list[str]) -> str:
    roles = ("system", "user", "assistant", "user")
    pieces = [frame.around[role][0] + mark + frame.around[role][1] for role, mark in zip(roles, marks, strict=True)]
    return "".join(pieces)


def _shared_end(one: str, other: str) -> str:
    length = 0
    while length < min(len(one), len(other)) and one[-1 - length] == other[-1 - length]:
        length += 1
    return one[len(one) - length :]
