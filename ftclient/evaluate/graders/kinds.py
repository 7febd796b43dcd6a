"""The graders of OpenAI's API as types: what they need, and what is wrong with one that cannot work."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from typing_extensions import Self

from ftclient.errors import DataError
from ftclient.evaluate.graders.formula import Formula
from ftclient.evaluate.graders.source import check_source
from ftclient.evaluate.graders.templates import variables_of

MOST_SOURCE_BYTES = 256_000
"""OpenAI's limit for the code of a python grader (its guide to graders, 2026)."""
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")


class _Kind(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(default="grader", min_length=1)
    pass_threshold: float | None = None
    """At which reward an answer counts as right.

    None: at 1 for checks and labels, else no such line is drawn. Comparisons, which list what was mended and broken,
    then draw it in the middle of the range.
    """

    def texts(self) -> Iterator[str]:
        """The texts that may hold variables."""
        yield from ()

    @model_validator(mode="after")
    def _variables_are_there(self) -> Self:
        for text in self.texts():
            variables_of(text)
        return self


class _Compared(_Kind):
    """A grader of one text against another."""

    input: str
    reference: str

    def texts(self) -> Iterator[str]:
        yield from (self.input, self.reference)


class StringCheck(_Compared):
    """1 or 0: whether the input is the reference (eq, ne), or contains it (like; ilike in any case)."""

    type: Literal["string_check"]
    operation: Literal["eq", "ne", "like", "ilike"]


class TextSimilarity(_Compared):
    """How alike input and reference are, from 0 to 1."""

    type: Literal["text_similarity"]
    evaluation_metric: Literal[
        "cosine",
        "fuzzy_match",
        "bleu",
        "gleu",
        "meteor",
        "rouge_1",
        "rouge_2",
        "rouge_3",
        "rouge_4",
        "rouge_5",
        "rouge_l",
    ]


class InputMessage(BaseModel):
    """A message to the model that grades."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    role: Literal["user", "assistant", "system", "developer"]
    content: Any

    def text(self) -> str:
        """The message's text; blocks of text are joined.

        Raises:
            ValueError: There is something else than text in it.
        """
        if isinstance(self.content, str):
            return self.content
        blocks = self.content if isinstance(self.content, list) else [self.content]
        texts = [block if isinstance(block, str) else block.get("text") for block in blocks]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("a message holds something else than text, which is not graded here")
        return "\n".join(texts)


class SamplingParams(BaseModel):
    """How the model that grades is sampled."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    seed: int | None = None
    max_completions_tokens: int | None = Field(default=None, ge=1)
    reasoning_effort: str | None = None


class _Asked(_Kind):
    """A grader that asks a model."""

    model: str = Field(min_length=1)
    input: Annotated[list[InputMessage], Field(min_length=1)]
    sampling_params: SamplingParams = SamplingParams()

    def texts(self) -> Iterator[str]:
        for message in self.input:
            yield message.text()


class ScoreModel(_Asked):
    """A number that a model gives, cut to the range."""

    type: Literal["score_model"]
    range: tuple[float, float] = (0.0, 1.0)

    @field_validator("range")
    @classmethod
    def _ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] >= value[1]:
            raise ValueError("the first number of a range must be below the second")
        return value


class LabelModel(_Asked):
    """1 if the label that a model chooses is one that passes, else 0."""

    type: Literal["label_model"]
    labels: Annotated[list[str], Field(min_length=1)]
    passing_labels: Annotated[list[str], Field(min_length=1)]

    @model_validator(mode="after")
    def _passing_are_labels(self) -> Self:
        unknown = sorted(set(self.passing_labels) - set(self.labels))
        if unknown:
            raise ValueError(f"passing label {unknown[0][:40]!r} is none of the labels")
        return self


class PythonGrader(_Kind):
    """What a function `grade(sample, item)` at the top level of the source returns.

    Where the code runs, and the little that it can still find out, is in `sandbox`.
    """

    type: Literal["python"]
    source: str = Field(min_length=1)
    image_tag: str | None = None

    @field_validator("source")
    @classmethod
    def _has_grade(cls, value: str) -> str:
        if len(value.encode()) > MOST_SOURCE_BYTES:
            raise ValueError(f"the source is longer than {MOST_SOURCE_BYTES:,} bytes")
        check_source(value)
        return value


Single = StringCheck | TextSimilarity | ScoreModel | LabelModel | PythonGrader
_SINGLE: Mapping[str, type[Single]] = {
    "string_check": StringCheck,
    "text_similarity": TextSimilarity,
    "score_model": ScoreModel,
    "label_model": LabelModel,
    "python": PythonGrader,
}


class Multi(_Kind):
    """A formula over the rewards of other graders.

    `graders` is a map from the formula's names to graders. The official client types it as a single grader, and
    OpenAI's specification shows a list; then the graders' own names are the formula's.
    """

    type: Literal["multi"]
    graders: Mapping[str, Annotated[Single, Field(discriminator="type")]]
    calculate_output: str = Field(min_length=1)

    @field_validator("graders", mode="before")
    @classmethod
    def _as_map(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and isinstance(value.get("type"), str):
            value = [value]
        if isinstance(value, list):
            value = {str(each.get("name") if isinstance(each, Mapping) else at): each for at, each in enumerate(value)}
        return value

    @model_validator(mode="after")
    def _formula_can_be_read(self) -> Self:
        bad = next((name for name in self.graders if not _IDENTIFIER.fullmatch(name)), None)
        if bad is not None:
            raise ValueError(f"{bad[:40]!r} cannot be a name in a formula: use letters, digits and _")
        self.formula()
        return self

    def formula(self) -> Formula:
        """The formula, parsed."""
        return Formula(self.calculate_output, names=list(self.graders))


Grader = Single | Multi


def parse_grader(value: Any) -> Grader:
    """Return a grader from its JSON value.

    Raises:
        pydantic.ValidationError: A field is missing or wrong.
        ValueError: There is no such type of grader.
    """
    kind = value.get("type") if isinstance(value, Mapping) else None
    known: dict[str, type[Grader]] = {**_SINGLE, "multi": Multi}
    if not isinstance(kind, str) or kind not in known:
        raise ValueError(f"'type' of a grader must be one of {', '.join(known)}")
    return known[kind].model_validate(value)


def read_grader(value: Any, *, source: str) -> Grader:
    """Return a grader that a user wrote down.

    Args:
        value: Its JSON value.
        source: Where it is from, for the error.

    Raises:
        DataError: It cannot work; the text names the field.
    """
    try:
        return parse_grader(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part not in _SINGLE)
        said = str(first["ctx"]["error"]) if first["type"] == "value_error" else first["msg"]
        raise DataError(f"{source}: {place + ': ' if place else ''}{said}") from error
    except ValueError as error:
        raise DataError(f"{source}: {error}") from error
