"""Every error that ftclient raises on purpose.

    FtclientError
    ├── DataError (ValueError)                  the dataset is at fault; carries the Report
    ├── BudgetError (ValueError)                the plan costs more than was allowed
    ├── JobNotFoundError (LookupError)          no such job at this host
    ├── UnsupportedError (NotImplementedError)  this host cannot do that
    ├── MissingDependencyError (ImportError)    an extra is not installed; the text is the install command
    └── BackendError (RuntimeError)             the host answered badly, or not at all
        ├── AuthError                           401: the key is missing or wrong
        ├── AccessError                         403: the key is right, the account may not
        ├── RateLimitError                      429 beyond the retries
        ├── UnavailableError                    no connection, timeout, 5xx
        └── JobFailedError                      the job itself ended `failed`

To add one: derive from the nearest class above and the stdlib type it refines, keep everything it carries in
`args` (so that it can be pickled), say in the text what the reader can do, and add it to the drawing.
Texts hold no key and no training text over 80 characters.
"""

from __future__ import annotations

from typing import Any


class FtclientError(Exception):
    """Root of all errors of this package."""


class DataError(FtclientError, ValueError):
    """A dataset cannot be used. `report` lists every problem with line, path and remedy (None if unreadable)."""

    def __init__(self, message: str, report: Any = None) -> None:
        super().__init__(message, report)
        self.report = report

    def __str__(self) -> str:
        """Return the message alone."""
        return str(self.args[0])


class BudgetError(FtclientError, ValueError):
    """The job would cost more than the given limit, or its cost is unknown while a limit was given."""


class JobNotFoundError(FtclientError, LookupError):
    """The host knows no job of this id."""


class UnsupportedError(FtclientError, NotImplementedError):
    """The host cannot do what was asked; nothing was sent."""


class MissingDependencyError(FtclientError, ImportError):
    """An optional dependency is missing; the text is the command that installs it."""


class BackendError(FtclientError, RuntimeError):
    """The host refused or failed.

    `status_code`, `code` and `param` are those of the HTTP answer where there was one, `request_id` names it in
    the host's logs.
    """

    def __init__(
        self,
        message: str,
        status_code: int | None = None,
        code: str | None = None,
        param: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, status_code, code, param, request_id)
        self.status_code = status_code
        self.code = code
        self.param = param
        self.request_id = request_id

    def __str__(self) -> str:
        """Return the message alone."""
        return str(self.args[0])


class AuthError(BackendError):
    """HTTP 401: the API key is missing or not accepted."""


class AccessError(BackendError):
    """HTTP 403: the key is valid, but the account may not do this."""


class RateLimitError(BackendError):
    """HTTP 429 that outlasted the retries."""


class UnavailableError(BackendError):
    """The host cannot be reached, or its answer leaves open what it has done: 5xx, 408, 409, 425."""


class JobFailedError(BackendError):
    """A job ended `failed`; `code`, `param` and the text are the host's own."""
