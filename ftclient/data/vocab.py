"""tiktoken's vocabularies: from its cache, from OpenAI's server, else from a wheel on the Python package index.

tiktoken reads a vocabulary from its cache folder under the sha1 of its URL and checks the sha256 itself; both ways of
getting one end in that file. The second way is for machines that reach a package index and nothing else.
"""

from __future__ import annotations

import gzip
import hashlib
import logging
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import tiktoken

_LOG = logging.getLogger(__name__)


class _Vocabulary(NamedTuple):
    url: str
    sha256: str
    member: str


def _openai(name: str, sha256: str) -> _Vocabulary:
    url = f"https://openaipublic.blob.core.windows.net/encodings/{name}.tiktoken"
    return _Vocabulary(url, sha256, f"bpe_openai/data/{name}.tiktoken.gz")


VOCABULARIES = {
    "o200k_base": _openai("o200k_base", "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"),
    "cl100k_base": _openai("cl100k_base", "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"),
}
"""Where each vocabulary is and what its content must hash to (both as in tiktoken 0.12)."""

_WHEEL = "bpe-openai==0.1.4"
_WHEEL_SHA256 = "91dde48b7c27a155ec94563ef488d95267bd17e2e8db360aba299ca9819335ba"
_WHEEL_TAGS = ("--platform=manylinux_2_17_x86_64", "--implementation=cp", "--abi=abi3", "--python-version=3.11")
"""One wheel for every machine: only its data files are used."""

_CONNECT_TIMEOUT_S = 3.0
_PIP_TIMEOUT_S = 180.0
_RETRY_AFTER_S = 600.0
"""How long a failed download is not tried again, by any process."""


@cache
def load_encoding(name: str) -> tiktoken.Encoding | None:
    """The tiktoken encoding, fetched once if need be; None if the vocabulary cannot be had."""
    if not ensure_vocabulary(name):
        return None
    import tiktoken

    return tiktoken.get_encoding(name)


def ensure_vocabulary(name: str) -> bool:
    """Make sure that a vocabulary is in tiktoken's cache; False if it cannot be had now."""
    vocabulary = VOCABULARIES[name]
    target = _cache_file(vocabulary)
    if target.is_file():
        return True
    stamp = target.with_name(target.name + ".unavailable")
    if stamp.is_file() and time.time() - stamp.stat().st_mtime < _RETRY_AFTER_S:
        return False
    content = _from_openai(vocabulary) or _from_wheel(vocabulary)
    if content is None:
        _write(stamp, b"")
        return False
    _write(target, content)
    return True


def _cache_file(vocabulary: _Vocabulary) -> Path:
    folder = os.environ.get("TIKTOKEN_CACHE_DIR") or os.environ.get("DATA_GYM_CACHE_DIR")
    parent = Path(folder) if folder else Path(tempfile.gettempdir()) / "data-gym-cache"
    return parent / hashlib.sha1(vocabulary.url.encode()).hexdigest()  # noqa: S324  tiktoken's file name, no secret


def _from_openai(vocabulary: _Vocabulary) -> bytes | None:
    import httpx2

    timeout = httpx2.Timeout(60.0, connect=_CONNECT_TIMEOUT_S)
    try:
        answer = httpx2.get(vocabulary.url, timeout=timeout, follow_redirects=True)
    except httpx2.HTTPError as error:
        _LOG.info("%s is out of reach: %s", vocabulary.url, error)
        return None
    return _verified(answer.content, vocabulary) if answer.is_success else None


def _from_wheel(vocabulary: _Vocabulary) -> bytes | None:
    with tempfile.TemporaryDirectory() as folder:
        wheel = _download_wheel(Path(folder))
        if wheel is None:
            return None
        with zipfile.ZipFile(wheel) as archive:
            return _verified(gzip.decompress(archive.read(vocabulary.member)), vocabulary)


def _download_wheel(folder: Path) -> Path | None:
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{_WHEEL} --hash=sha256:{_WHEEL_SHA256}\n")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    where = ["--timeout=5", "--retries=0", "--dest", str(folder), "--requirement", str(wanted)]
    command = [*pip, "--no-deps", "--only-binary=:all:", "--require-hashes", *_WHEEL_TAGS, *where]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_PIP_TIMEOUT_S)  # noqa: S603  fixed words, no user input
    except (OSError, subprocess.TimeoutExpired) as error:
        _LOG.info("pip cannot download %s: %s", _WHEEL, error)
        return None
    if done.returncode != 0:
        _LOG.info("pip cannot download %s: %s", _WHEEL, done.stderr.strip()[-500:])
    return next(folder.glob("*.whl"), None)


def _verified(content: bytes, vocabulary: _Vocabulary) -> bytes | None:
    if hashlib.sha256(content).hexdigest() == vocabulary.sha256:
        return content
    _LOG.warning("%s has an unexpected content; it is not used", vocabulary.url)
    return None


def _write(target: Path, content: bytes) -> None:
    """Write a cache file in one piece. A cache that cannot be written is no reason to fail."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as file:
            file.write(content)
        Path(file.name).chmod(0o644)  # the folder is shared by all users; the content is public
        Path(file.name).replace(target)
    except OSError as error:
        _LOG.warning("%s cannot be written: %s", target, error)
