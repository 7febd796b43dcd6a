"""From the rows of a table to examples: which column asks, which answers, and templates of several columns."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ftclient.data.convert.images import QUESTION, cell_part, is_empty, why_no_images
from ftclient.data.convert.pairs import chat
from ftclient.data.convert.shapes import SkipRecordError
from ftclient.errors import DataError

_NAMES = {
    "prompt": (
        "prompt", "question", "input", "text", "query", "user", "message", "body", "content", "utterance", "mail",
        "email", "質問", "本文", "問い合わせ", "お問い合わせ", "お問い合わせ内容", "入力", "内容", "文章", "メール",
    ),
    "answer": (
        "completion", "answer", "output", "response", "reply", "assistant", "target", "label", "category", "class",
        "intent", "回答", "返信", "返答", "出力", "ラベル", "カテゴリ", "カテゴリー", "分類", "区分",
    ),
    "image": ("image", "image_path", "image_file", "picture", "photo", "画像", "画像ファイル", "写真"),
    "system": ("system", "system_prompt", "instruction", "instructions", "指示"),
}  # fmt: skip
"""Names of columns that say what they are for, the likelier first."""

_FIELD = re.compile(r"\{\{|\}\}|\{([^{}]+)\}")


@dataclass(frozen=True, kw_only=True)
class Columns:
    r"""Which columns become which part of an example.

    Each part is the name of a column or a template such as `"{subject}\n\n{body}"`; `{{` and `}}` are braces.
    """

    prompt: str | None = None
    answer: str | None = None
    answer_json: Sequence[str] = ()
    """Columns that make the answer a JSON object, instead of `answer`."""
    system: str | None = None
    """The instructions: a column, a template, or plain text."""
    image: str | None = None
    """The column with an image for each row: a file below `folder`, or an address, which stays one.

    Left out, it is found by its name, unless `prompt` says what is shown.
    """
    is_image_optional: bool = False
    """Rows with a prompt whose image is empty ask without one; so it is where the column was found by its name."""
    label_separator: str | None = None
    """What stands between several labels in the answer; the answer becomes a JSON list of them."""
    shrink_px: int | None = None
    """Images with a longer side are scaled down to this."""
    folder: Path | None = None
    """Where the files of images are; with `convert_file` the folder of the table."""
    names: Sequence[str] = field(default=())
    """The columns that there are."""

    def make(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """The example of one row.

        Raises:
            SkipRecordError: The prompt or the answer is empty, or the image cannot be used.
        """
        prompt = fill(self.prompt or "", record, is_text=self.image is not None).strip()
        shows = self.image is not None and not (self.is_image_optional and prompt and is_empty(record.get(self.image)))
        prompt = prompt or (QUESTION if shows else "")
        answer = self._answer(record).strip()
        for name, text in (("prompt", prompt), ("answer", answer)):
            if not text:
                raise SkipRecordError(f"the {name} is empty")
        system = fill(self.system, record, is_text=True).strip() if self.system else None
        example = chat(prompt, answer, system=system)
        if self.image and shows:
            part = cell_part(record.get(self.image), folder=self.folder, shrink_px=self.shrink_px)
            example["messages"][-2]["content"] = [{"type": "text", "text": prompt}, part]
        return example

    def _answer(self, record: Mapping[str, Any]) -> str:
        if self.answer_json:
            return json.dumps({name: record.get(name) for name in self.answer_json}, ensure_ascii=False)
        answer = fill(self.answer or "", record)
        if self.label_separator is None:
            return answer
        labels = dict.fromkeys(filter(None, (label.strip() for label in answer.split(self.label_separator))))
        return json.dumps(list(labels), ensure_ascii=False)


def find_columns(names: Sequence[str], given: Columns, *, no_images: Collection[str] = ()) -> Columns:
    """Complete a mapping by the names of the columns.

    Args:
        names: The columns.
        given: What is known of the mapping.
        no_images: Columns that are not taken for images beside a prompt, whatever their names say.

    Raises:
        DataError: A named column does not exist, or no column is known to ask or to answer.
    """
    _refuse_unknown(names, given)
    taken = {given.answer, given.system, given.image, *given.answer_json}
    prompt = given.prompt or _named(names, "prompt", taken)
    # Who names what asks, and no image, has chosen what to show.
    passed_over = no_images if prompt is not None else ()
    image = given.image or (None if given.prompt else _named(names, "image", {prompt, *taken, *passed_over}))
    answer = given.answer or (None if given.answer_json else _named(names, "answer", {prompt, image, *taken}))
    system = given.system or _named(names, "system", {prompt, image, answer, *taken})
    if (prompt is None and image is None) or (answer is None and not given.answer_json):
        missing = "asks (--prompt)" if prompt is None and image is None else "answers (--answer)"
        raise DataError(
            f"Which column {missing}? The columns are {', '.join(names)}. Name one, or give a template such as "
            f'"{{{names[0] if names else "column"}}}".'
        )
    is_optional = given.is_image_optional or (image is not None and given.image is None)
    return replace(
        given,
        prompt=prompt,
        image=image,
        is_image_optional=is_optional,
        answer=answer,
        system=system,
        names=tuple(names),
    )


def image_column(names: Sequence[str]) -> str | None:
    """The column that has images by its name, if one does."""
    return _named(names, "image", set())


def without_images(
    names: Sequence[str], records: Sequence[Mapping[str, Any]], *, folder: Path | None
) -> dict[str, str]:
    """The columns that should have images by their names and have other things, with the reason of the first one.

    Columns that are empty in these records may have images later.
    """
    named = [name for name in names if name.strip().lower() in _NAMES["image"]]
    found = {name: why_no_images((record.get(name) for record in records), folder=folder) for name in named}
    return {name: why for name, why in found.items() if why is not None}


def fill(template: str, record: Mapping[str, Any], *, is_text: bool = False) -> str:
    """The text of a column, or a template with the texts of its columns.

    Args:
        template: A column's name or a template.
        record: The row.
        is_text: A name that is no column stands for itself.
    """
    if template in record:
        return _cell(record[template])
    if not is_text and "{" not in template:
        return ""
    return _FIELD.sub(lambda found: _field(found, record), template)


def _field(found: re.Match[str], record: Mapping[str, Any]) -> str:
    name = found.group(1)
    return found.group()[0] if name is None else _cell(record.get(name.strip()))


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False, default=str)


def _named(names: Sequence[str], part: str, taken: set[str | None]) -> str | None:
    by_plain = {name.strip().lower(): name for name in names if name not in taken}
    return next((by_plain[known] for known in _NAMES[part] if known in by_plain), None)


def _refuse_unknown(names: Sequence[str], given: Columns) -> None:
    # About an image the question may be plain text.
    parts = [part for part in (None if given.image else given.prompt, given.answer, given.image) if part is not None]
    wanted = [part for part in parts if "{" not in part] + list(given.answer_json)
    for template in [*parts, given.prompt or "", given.system or ""]:
        wanted += [name.strip() for name in _FIELD.findall(template) if name]
    for name in wanted:
        if name not in names:
            raise DataError(f"There is no column {name!r}; the columns are {', '.join(names)}.")
