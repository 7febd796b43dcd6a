"""Text, Markdown, HTML and PDF files as text."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

from ftclient.data.digest import sha256_of
from ftclient.errors import DataError, MissingDependencyError

INSTALL = 'pip install "ftclient[rag]"'
"""What brings the libraries of retrieval."""

_SILENT_TAGS = {"script", "style", "template", "noscript", "title"}
"""Not `head`: its end may be left out, and nothing else in it is text."""
_BLOCK_TAGS = {"p", "div", "section", "article", "li", "tr", "br", "ul", "ol", "table", "pre", "blockquote", "dt", "dd"}
_HEADINGS = {f"h{level}": "#" * level for level in range(1, 7)}


@dataclass(frozen=True, kw_only=True)
class Document:
    """A file of the user's."""

    name: str
    """Its path below the folder, with slashes."""
    sha256: str
    path: Path


def find(folder: Path) -> Iterator[Document]:
    """Yield the files below a folder that can be read as text, by name.

    Hidden files and folders are passed over, and so are links: nothing outside the folder gets in.

    Raises:
        DataError: There is no such folder, or nothing in it to read.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder. Name the folder with your documents.")
    found = False
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.suffix.lower() not in _READERS or path.is_symlink() or not path.is_file():
            continue
        if any(part.startswith(".") for part in name.parts):
            continue
        found = True
        # Names that are no UTF-8 are shown, and kept, with their bytes written out.
        shown = os.fsencode(name.as_posix()).decode("utf-8", "backslashreplace")
        yield Document(name=shown, sha256=sha256_of(path), path=path)
    if not found:
        raise DataError(f"{folder}: no document in it; {', '.join(sorted(_READERS))} are read.")


def read(document: Document) -> str:
    """Return a document's text; headings of HTML become lines that begin with `#`, as in Markdown.

    Raises:
        DataError: It holds no text that can be read; the message names the file and says why.
        MissingDependencyError: It is a PDF, and pypdf is not installed.
    """
    text = _READERS[document.path.suffix.lower()](document)
    if not text.strip():
        raise DataError(f"{document.name}: no text in it. A scanned page has to go through text recognition first.")
    return text


def _plain(document: Document) -> str:
    try:
        return document.path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{document.name}: byte {error.start} is not UTF-8. Save the file as UTF-8.") from error


def _html(document: Document) -> str:
    parser = _Text()
    parser.feed(_plain(document))
    parser.close()
    return "".join(parser.pieces)


def _pdf(document: Document) -> str:
    try:
        from pypdf import PdfReader
    except ImportError as error:
        raise MissingDependencyError(INSTALL) from error
    log = logging.getLogger("pypdf")
    if not log.handlers:
        log.addHandler(logging.NullHandler())  # what it says of damage would go to stderr
    try:
        reader = PdfReader(document.path)
        is_locked = reader.is_encrypted and not reader.decrypt("")
        text = "" if is_locked else "\n\n".join(page.extract_text() for page in reader.pages)
    except Exception as error:  # of damaged files it raises PyPdfError, and whatever else it stumbles over
        raise DataError(f"{document.name}: this is no sound PDF ({str(error)[:80]}).") from error
    if is_locked:
        raise DataError(f"{document.name}: it is locked with a password. Save a copy without one.")
    return text


class _Text(HTMLParser):
    """Collects what a browser would show."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self._silent: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        if tag in _SILENT_TAGS:
            self._silent.append(tag)
        elif tag in _HEADINGS:
            self.pieces.append(f"\n\n{_HEADINGS[tag]} ")
        elif tag in _BLOCK_TAGS:
            self.pieces.append("\n\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._silent:
            while self._silent.pop() != tag:
                pass
        elif tag in _HEADINGS or tag in _BLOCK_TAGS:
            self.pieces.append("\n\n")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.pieces.append(" ".join(data.split()) + " " if data.strip() else " ")


_READERS: dict[str, Callable[[Document], str]] = {
    ".txt": _plain,
    ".md": _plain,
    ".markdown": _plain,
    ".html": _html,
    ".htm": _html,
    ".pdf": _pdf,
}
