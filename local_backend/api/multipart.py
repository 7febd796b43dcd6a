"""Reading multipart bodies: the one file goes straight to disk, whatever its size; the fields are small."""

from __future__ import annotations

from dataclasses import dataclass, field

from fastapi import Request
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from local_backend.api.errors import ApiError
from local_backend.store.blobs import Incoming

_FIELD_BYTES = 64 * 1024
_MAX_FIELDS = 32


@dataclass
class Form:
    """What came with the file."""

    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None
    """None: the body had no such file."""


class _Reader:
    """Takes the parser's callbacks: bytes of the file go to `into`, other parts become fields."""

    def __init__(self, *, file_field: str, into: Incoming, max_bytes: int) -> None:
        self.form = Form()
        self._file_field = file_field
        self._into = into
        self._max_bytes = max_bytes
        self._name = b""
        self._value = b""
        self._headers: dict[bytes, bytes] = {}
        self._field: str | None = None
        self._data = bytearray()
        self.has_ended = False

    def callbacks(self) -> dict[str, object]:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._headers, self._field, self._data = {}, None, bytearray()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        name = options.get(b"name", b"").decode(errors="replace")
        if name == self._file_field:
            if self.form.filename is not None:
                raise ApiError(f"'{name}' was sent twice.", param=name)
            self.form.filename = options.get(b"filename", b"").decode(errors="replace") or "upload"
            return
        if len(self.form.fields) >= _MAX_FIELDS:
            raise ApiError("The form has too many fields.")
        self._field = name

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._field is None:
            self._into.write(data[start:end])
            if self._into.n_bytes > self._max_bytes:
                raise ApiError(
                    f"The file is larger than {self._max_bytes} bytes; send larger ones in parts by /v1/uploads.",
                    status=413,
                    param=self._file_field,
                    code="file_too_large",
                )
            return
        self._data += data[start:end]
        if len(self._data) > _FIELD_BYTES:
            raise ApiError(f"The field '{self._field[:80]}' is too long.", param=self._field[:80])

    def _part_end(self) -> None:
        if self._field is not None:
            self.form.fields[self._field] = self._data.decode(errors="replace")

    def _end(self) -> None:
        self.has_ended = True


async def read_form(request: Request, *, file_field: str, into: Incoming, max_bytes: int) -> Form:
    """Read a multipart body; the file's bytes are in `into` afterwards.

    Raises:
        ApiError: No multipart body, no file in it, or too much of anything.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise ApiError("The body must be multipart/form-data.", code="invalid_content_type")
    reader = _Reader(file_field=file_field, into=into, max_bytes=max_bytes)
    parser = MultipartParser(boundary, reader.callbacks())  # type: ignore[arg-type]  # callbacks of three shapes
    try:
        async for chunk in request.stream():
            parser.write(chunk)
    except MultipartParseError as error:
        raise ApiError("The multipart body is damaged.") from error
    if not reader.has_ended:  # the parser does not notice
        raise ApiError("The multipart body ends too early; send it again.")
    if reader.form.filename is None:
        raise ApiError(
            f"Missing required parameter: '{file_field}'.", param=file_field, code="missing_required_parameter"
        )
    return reader.form
