"""The one renderer: from chat messages to token ids and loss weights, by the model's own chat template.

Training, evaluation, serving and token counts all go through `Template`. What is trained is found by rendering
prefixes of the conversation and checking that each is a prefix of the whole; no marks in the template are needed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from local_backend.engine.messages import Message, called_names, plain_message, renamed, tools_of, weight_of
from local_backend.engine.said import Write, check_instructed, check_trained
from local_backend.task import UserError


@dataclass(frozen=True)
class Rendered:
    """One sequence as the trainer sees it."""

    ids: list[int]
    weights: list[float]
    """One a token: how much predicting this token counts. The first is 0; nothing predicts it."""
    images: tuple[bytes, ...] = ()
    """What models that see read beside the tokens, in the order of the messages; not decoded."""


@dataclass(frozen=True)
class Draft:
    """A sequence as text, cut where answers begin and end, since generation begins with tokens of its own."""

    pieces: tuple[str, ...]
    weights: tuple[float | None, ...]
    """One a piece; None: it is no answer."""
    is_last_open: bool
    """Whether the conversation ends with a trained answer."""
    images: tuple[ReadImage, ...] = ()


@dataclass(frozen=True)
class ReadImage:
    """An image of a conversation."""

    content: bytes
    ids: list[int]
    """The tokens that a model reads it as."""


class Template:
    """Renders conversations for one model. Thread-safe."""

    def __init__(self, tokenizer: Any, *, stop_ids: Sequence[int] = ()) -> None:
        if not tokenizer.chat_template:
            text = "This model has no chat template, so chat examples can't be rendered. Choose an instruct model."
            raise UserError(text, param="model", code="model_not_supported")
        self.tokenizer = tokenizer
        self.stop_ids = frozenset({tokenizer.eos_token_id, *stop_ids} - {None})
        """Tokens that end an answer."""
        self._special_ids = frozenset(tokenizer.all_special_ids) | self.stop_ids
        self._write = _writer(tokenizer)
        self._fast = without_offsets(tokenizer)

    @classmethod
    def of(cls, model_dir: Path) -> Template:
        """Load tokenizer, chat template and stop tokens from a model's folder; how it reads images, if it does."""
        from transformers import AutoTokenizer

        from local_backend.engine.vision.reader import reads_images
        from local_backend.engine.vision.template import VisionTemplate

        if cls is Template and reads_images(model_dir):
            return VisionTemplate.of(model_dir)
        tokenizer = AutoTokenizer.from_pretrained(model_dir, local_files_only=True)
        return cls(tokenizer, stop_ids=generation_stops(model_dir))

    def prompt(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> list[int]:
        """Return the ids that an answer to `messages` is generated from."""
        return self.asked(messages, tools).ids

    def asked(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> Rendered:
        """Return the same, with the images that belong to it where the model reads images.

        Raises:
            UserError: The template can't express the messages or the tools, or leaves a system message out.
        """
        plain = self._plain(messages)
        self._check_expressible(plain, tools)
        write = partial(self._text, tools=tools, opens_answer=True)
        text = write(plain)
        check_instructed(text, plain, write)
        (ids,) = self._tokenize_all([text])
        return Rendered(ids, [0.0] * len(ids))

    def render(self, example: Mapping[str, Any]) -> list[Rendered]:
        """Render a chat example.

        Returns:
            One sequence; where the template rewrites earlier turns (hides old thinking, say), one for each
            trained turn, as the model would meet them.

        Raises:
            UserError: The template can't express the example, or nothing in it is trained.
        """
        return self.finish(self.drafts(example))

    def render_pair(self, example: Mapping[str, Any]) -> tuple[Rendered, Rendered]:
        """Render the preferred and the non-preferred answer of a preference example, each behind the prompt."""
        preferred, other = self.finish(self.pair_drafts(example))
        return preferred, other

    def drafts(self, example: Mapping[str, Any]) -> list[Draft]:
        """Return what `render` makes of an example before tokens are made; the errors are the same."""
        messages, tools = self._plain(example["messages"]), tools_of(example)
        self._check_expressible(messages, tools)
        turns = [i for i, message in enumerate(messages) if weight_of(message) > 0]
        if not turns:
            raise UserError("No token of this example is trained: it has no assistant message of weight above 0.")
        whole = self._text(messages, tools)
        borders = [self._turn_borders(messages, tools, i, whole) for i in turns]
        if all(whole.startswith(text) for border in borders for text in border):
            return [_draft(whole, messages, turns, borders, partial(self._text, tools=tools))]
        return [self._turn(messages[: i + 1], tools) for i in turns]

    def pair_drafts(self, example: Mapping[str, Any]) -> list[Draft]:
        """Return the same for `render_pair`.

        Raises:
            UserError: As for `drafts`; or there is nothing to choose between the two answers.
        """
        given = example["input"]
        prompt, tools = self._plain(given["messages"]), tools_of(given)
        drafts = [self._answered(prompt, example[key], tools) for key in ("preferred_output", "non_preferred_output")]
        if drafts[0].pieces == drafts[1].pieces:
            text = "The model's chat template writes both answers of this pair alike, so it ranks nothing. Drop it."
            raise UserError(text, code="preference_identical")
        return drafts

    def finish(self, drafts: Sequence[Draft]) -> list[Rendered]:
        """Make tokens and weights of drafts. Many at once take all cores, and give what one at a time does."""
        texts = list(dict.fromkeys(text for draft in drafts for text in draft.pieces if text))
        ids = {"": [], **dict(zip(texts, self._tokenize_all(texts), strict=True))}
        return [self._finished(draft, [ids[text] for text in draft.pieces]) for draft in drafts]

    def _plain(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """The messages in the words that open models' templates know."""
        return [plain_message(message) for message in messages]

    def _answered(self, prompt: list[dict[str, Any]], answer: Sequence[Message], tools: Sequence[Any]) -> Draft:
        """Draft one answer of a pair behind the pair's prompt."""
        if any(weight_of(message) != 1 for message in answer):
            text = "The answers of a pair always count whole: delete the weight, or drop the pair."
            raise UserError(text, code="weight_invalid")
        messages = prompt + self._plain(answer)
        self._check_expressible(messages, tools)
        return self._turn(messages, tools)

    def _turn_borders(
        self, messages: list[dict[str, Any]], tools: Sequence[Any], i: int, whole: str
    ) -> tuple[str, str]:
        """The text before the answer in message `i`, and the text up to its end; all of the messages give `whole`."""
        after = whole if i == len(messages) - 1 else self._text(messages[: i + 1], tools)
        return self._text(messages[:i], tools, opens_answer=True), after

    def _turn(self, messages: list[dict[str, Any]], tools: Sequence[Any]) -> Draft:
        """Draft a conversation of which only the last message is trained."""
        last, whole = len(messages) - 1, self._text(messages, tools)
        border = self._turn_borders(messages, tools, last, whole)
        if not whole.startswith(border[0]):
            raise UserError(
                "The model's chat template writes a prompt differently once it is answered, so what the model would "
                "be trained on is not what it meets when it answers. Choose another model or mend its template.",
                param="model",
                code="model_not_supported",
            )
        return _draft(whole, messages, [last], [border], partial(self._text, tools=tools))

    def _finished(self, draft: Draft, pieces: Sequence[list[int]]) -> Rendered:
        """Join a draft's tokens, and weigh its answers."""
        ids: list[int] = []
        spans: list[tuple[int, int, float]] = []
        for piece, weight in zip(pieces, draft.weights, strict=True):
            if weight is not None:
                spans.append((len(ids), len(ids) + len(piece), weight))
            ids += piece
        return self._with_weights(ids, spans, is_last_open=draft.is_last_open)

    def _with_weights(self, ids: list[int], spans: Sequence[tuple[int, int, float]], *, is_last_open: bool) -> Rendered:
        weights = [0.0] * len(ids)
        for start, end, weight in spans:
            stop = self._end_of_answer(ids, start, end)
            if stop is None and end == len(ids) and is_last_open:
                # The template leaves the last answer open; untrained, the model would never stop.
                ids.append(self.tokenizer.eos_token_id)
                weights.append(0.0)
                stop = len(ids)
            stop = stop or end
            weights[start:stop] = [weight] * (stop - start)
        weights[0] = 0.0
        return Rendered(ids, weights)

    def _end_of_answer(self, ids: list[int], start: int, end: int) -> int | None:
        """Where the answer's terminator ends: in the answer's own text, or owned by what follows."""
        inside = [k for k in range(start, end) if ids[k] in self.stop_ids]
        if not inside:
            inside = [k for k in range(start, end) if ids[k] in self._special_ids][-1:]
        if inside:
            return inside[-1] + 1
        return end + 1 if end < len(ids) and ids[end] in self._special_ids else None

    def _tokenize_all(self, texts: list[str]) -> list[list[int]]:
        """The template writes BOS where the model wants one, so none is added here."""
        if self._fast is None:
            return list(self.tokenizer(texts, add_special_tokens=False)["input_ids"]) if texts else []
        return [one.ids for one in self._fast.encode_batch_fast(texts, add_special_tokens=False)]

    def _text(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], *, opens_answer: bool = False
    ) -> str:
        import jinja2

        try:
            return self._write(list(messages), list(tools) or None, opens_answer=opens_answer)
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            text = f"The model's chat template refuses these messages: {str(error)[:200]}"
            raise UserError(text, param="messages", code="template_error") from error

    def _check_expressible(self, messages: Sequence[Message], tools: Sequence[Any]) -> None:
        """Refuse tools and tool calls that the template would leave out in silence."""
        names = called_names(messages, tools)
        if not names:
            return
        # Under names that stand nowhere else: the right ones may be words of the conversation.
        others = {name: f"tool_{i}_{name}" for i, name in enumerate(names)}
        text = self._text(*renamed(messages, tools, others))
        missing = [name for name in names if others[name] not in text]
        if missing:
            raise UserError(
                f"The model's chat template has no place for tools (`{missing[0][:64]}` would be left out). "
                "Choose a model whose template knows tools.",
                param="tools",
                code="model_not_supported",
            )


def _writer(tokenizer: Any) -> Callable[..., str]:
    """Return what writes conversations (messages, tools, and whether an answer's prompt ends them) as text.

    `apply_chat_template` copies and looks at all it is given, which takes longer than the template itself. Messages
    in which it would change nothing go to the compiled template as they are; it refuses to write none at all.
    """

    def carefully(messages: list[Message], tools: list[Any] | None, *, opens_answer: bool) -> str:
        return str(
            tokenizer.apply_chat_template(messages, tools=tools, tokenize=False, add_generation_prompt=opens_answer)
        )

    try:
        from transformers.utils.chat_template_utils import _compile_jinja_template

        template, marks = _compile_jinja_template(tokenizer.get_chat_template()), dict(tokenizer.special_tokens_map)
    except (ImportError, ValueError):  # it has moved, or there is no template without tools
        return carefully

    def write(messages: list[Message], tools: list[Any] | None, *, opens_answer: bool) -> str:
        if tools or not messages or not all(_is_plain(message) for message in messages):
            return carefully(messages, tools, opens_answer=opens_answer)
        given = {"messages": messages, "tools": None, "documents": None, "add_generation_prompt": opens_answer}
        return str(template.render(**given, **marks))

    return write


def without_offsets(tokenizer: Any) -> Any:
    """Return what makes tokens alone, in half the time that it takes with the places of each in the text; or None."""
    if not tokenizer.is_fast:
        return None
    fast = tokenizer.backend_tokenizer
    fast.no_truncation()  # a file may ask for both
    fast.no_padding()
    return fast


def _is_plain(message: Message) -> bool:
    return message.keys() <= _PLAIN_KEYS and _PLAIN_TYPES.issuperset(map(type, message.values()))


_PLAIN_KEYS = {"role", "content", "name", "weight"}
_PLAIN_TYPES = frozenset({str, int, float})


def _draft(
    whole: str, messages: Sequence[Message], turns: Sequence[int], borders: Sequence[tuple[str, str]], write: Write
) -> Draft:
    """Cut `whole` where the answers of `turns` begin, as in generation, and where they end."""
    if not whole:
        raise UserError("No token of this example is trained: the model's chat template writes nothing of it.")
    check_trained(whole, messages, turns, write)
    pieces: list[tuple[str, float | None]] = []
    done = 0
    for i, (before, after) in zip(turns, borders, strict=True):
        pieces += [(whole[done : len(before)], None), (whole[len(before) : len(after)], weight_of(messages[i]))]
        done = len(after)
    pieces.append((whole[done:], None))
    kept = [(text, weight) for text, weight in pieces if text or weight is not None]
    return Draft(
        pieces=tuple(text for text, _ in kept),
        weights=tuple(weight for _, weight in kept),
        is_last_open=turns[-1] == len(messages) - 1,
    )


_MOST_TOKENS_A_LETTER = 4
"""UTF-8 has at most four bytes a letter, and a token at least one."""


def show(rendered: Rendered, tokenizer: Any) -> list[dict[str, Any]]:
    """List the tokens of a rendered sequence, each as {"id", "text", "weight"}.

    A letter that takes several tokens (most kanji do) stands whole in the last of them; the others have no text.
    """
    shown: list[dict[str, Any]] = []
    held: list[int] = []
    for token, weight in zip(rendered.ids, rendered.weights, strict=True):
        held.append(token)
        text = tokenizer.decode(held)
        if text.endswith("\N{REPLACEMENT CHARACTER}") and len(held) < _MOST_TOKENS_A_LETTER:
            text = ""
        else:
            held = []
        shown.append({"id": token, "text": text, "weight": weight})
    return shown


def generation_stops(model_dir: Path) -> list[int]:
    """The tokens that end an answer by a model's generation_config.json."""
    file = model_dir / "generation_config.json"
    if not file.is_file():
        return []
    stops = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id")
    return list(stops) if isinstance(stops, list) else [stops]
