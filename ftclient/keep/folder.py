"""The folder that holds what was taken along: plain files, and a manifest with their checksums.

keep/
  manifest.json                     what is here, where it is from, and what could not be had
  jobs/JOB/job.json                 the job as the API returned it, with its parameters
  jobs/JOB/{events.jsonl,metrics.json,checkpoints.json}
  files/FILE.jsonl                  training and validation files
  golden/MODEL.jsonl                recorded answers, one a line; of several to one prompt the last is meant
  golden/MODEL.refused.jsonl        prompts that the host refused, with its reasons
  index.html                        the page for a team
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ftclient.data.digest import sha256_of
from ftclient.data.new_file import new_file
from ftclient.data.reader import dump_line
from ftclient.errors import DataError
from ftclient.home import open_home

FORMAT = 1


class KeepFolder:
    """A folder of kept things; every file is whole or not there, and the manifest knows its sha256.

    Raises:
        DataError: The folder was written by another version, or its manifest is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = open_home(path)
        self._manifest_path = path / "manifest.json"
        self.manifest: dict[str, Any] = {"format": FORMAT, "source": {}, "models": [], "files": {}, "problems": []}
        if self._manifest_path.exists():
            self.manifest = self._read_manifest()

    def _read_manifest(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self._manifest_path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError(f"{self._manifest_path} is damaged ({error}). Choose a new folder.") from error
        if found.get("format") != FORMAT:
            raise DataError(f"{self._manifest_path} has format {found.get('format')}, and this version reads {FORMAT}.")
        return found

    def save(self) -> None:
        """Write the manifest."""
        text = json.dumps(self.manifest, indent=2, ensure_ascii=False)
        with new_file(self._manifest_path, overwrite=True) as file:
            file.write(text.encode())

    def has(self, name: str) -> bool:
        """Whether a file is here, with the content that the manifest knows."""
        entry, path = self.manifest["files"].get(name), self.path / name
        return (
            bool(entry)
            and path.is_file()
            and path.stat().st_size == entry["bytes"]
            and sha256_of(path) == entry["sha256"]
        )

    def put(self, name: str, pieces: Iterable[bytes]) -> Path:
        """Write a file whole and note its checksum in the manifest."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with new_file(path, overwrite=True) as file:
            for piece in pieces:
                file.write(piece)
        self.note(name)
        return path

    def note(self, name: str) -> None:
        """Take a file that is here into the manifest."""
        path = self.path / name
        self.manifest["files"][name] = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
        self.save()

    def put_json(self, name: str, value: Any) -> Path:
        """Write an object as JSON."""
        return self.put(name, [json.dumps(value, indent=2, ensure_ascii=False).encode()])

    def get_json(self, name: str) -> Any:
        """Read an object; None if it is not here."""
        path = self.path / name
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def note_problem(self, what: str, why: str) -> None:
        """Say in the manifest what could not be had, in place of what was said of it before."""
        others = [each for each in self.manifest["problems"] if each["what"] != what]
        self.manifest["problems"] = [*others, {"what": what, "why": why}]
        self.save()

    def drop_problems(self, *whats: str) -> None:
        """Say no more of what could be had after all."""
        self.manifest["problems"] = [each for each in self.manifest["problems"] if each["what"] not in whats]
        self.save()

    def golden_path(self, model: str) -> Path:
        """Return where the answers of a model are, or are to be."""
        folder = self.path / "golden"
        folder.mkdir(exist_ok=True, mode=0o700)
        return folder / f"{safe_name(model)}.jsonl"

    def golden(self, model: str) -> Iterator[dict[str, Any]]:
        """Yield the recorded answers of a model, one for each prompt; a last line that was cut by a crash is none."""
        yield from {entry["prompt"]: entry for entry in _entries(self.golden_path(model))}.values()

    def refused(self, model: str) -> Iterator[dict[str, Any]]:
        """Yield the prompts of a model that the host refused, each with its reason as `error`."""
        yield from _entries(self.path / _refused_name(model))

    def cut_torn_golden(self, model: str) -> None:
        """Take off what a crash left of a last line, so that the next one begins on its own."""
        path = self.golden_path(model)
        if path.is_file():
            content = path.read_bytes()
            whole = content[: content.rfind(b"\n") + 1]
            if whole != content:
                path.write_bytes(whole)

    def add_golden(self, model: str, entry: Mapping[str, Any]) -> None:
        """Record an answer; it outlives the end of this process, and `note_golden` takes it into the manifest."""
        with self.golden_path(model).open("ab") as file:
            file.write(dump_line(entry, 1))

    def note_golden(self, model: str, refused: Iterable[Mapping[str, Any]]) -> None:
        """Take the recorded answers of a model into the manifest, with the prompts that were refused."""
        path, lines = self.golden_path(model), [dump_line(entry, 1) for entry in refused]
        if path.is_file():
            self.note(f"golden/{path.name}")
        if lines:
            self.put(_refused_name(model), lines)
        else:
            self._drop(_refused_name(model))

    def _drop(self, name: str) -> None:
        (self.path / name).unlink(missing_ok=True)
        if self.manifest["files"].pop(name, None):
            self.save()


def _refused_name(model: str) -> str:
    return f"golden/{safe_name(model)}.refused.jsonl"


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    if path.is_file():
        for line in path.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):
                yield json.loads(line)


def safe_name(text: str) -> str:
    """Return a name for a file: `ft:gpt-4o:acme::a1` -> `ft_gpt-4o_acme__a1`."""
    return re.sub(r"[^A-Za-z0-9.-]", "_", text)[:150].lstrip(".") or "_"
