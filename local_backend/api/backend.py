"""What the endpoints work with: the store's rooms, the engine and the runner of one home."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request

from local_backend.api.errors import ApiError, model_not_found
from local_backend.models import reference
from local_backend.names import is_tuned
from local_backend.runner import Engines
from local_backend.settings import Settings
from local_backend.start import Starter, starter_for
from local_backend.store.answers import Idempotency
from local_backend.store.database import Store
from local_backend.store.files import Files
from local_backend.store.jobs import Jobs
from local_backend.store.models import Models, Permissions
from local_backend.store.sweep import sweep_home
from local_backend.store.uploads import Uploads
from local_backend.task import Engine, ModelRef, UserError


class Backend:
    """One open home."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = Store(settings.server_dir)
        self.files = Files(self.store)
        self.uploads = Uploads(self.store)
        self.jobs = Jobs(self.store)
        self.models = Models(self.store)
        self.permissions = Permissions(self.store)
        self.engines = Engines(settings)
        sweep_home(self.store)
        self.runner: Starter = starter_for(settings, self.store, engines=self.engines)
        self.runner.ensure()

    def engine_of(self, model: str) -> str:
        """The name of the engine that a model belongs to: tuned ones to the engine that trained them."""
        row = self.models.get(model) if is_tuned(model) else None
        return self.settings.engine if row is None else row.engine

    def engine(self, model: str) -> Engine:
        """The engine that a model belongs to, loaded on first use."""
        return self.engines.get(self.engine_of(model))

    def find_model(self, name: str) -> ModelRef:
        """Return the model of a name: tuned, checkpoint, alias or base.

        Raises:
            ApiError: 404, as OpenAI answers for models that do not exist.
            UserError: The name leads to files that are no model.
        """
        if is_tuned(name):
            row = self.models.get(name)
            if row is None or not Path(row.model_dir).is_dir():
                raise model_not_found(name)
            return ModelRef(base=row.base, tuned_dir=Path(row.model_dir))
        try:
            return reference(name, settings=self.settings)
        except UserError as error:
            if error.code != "model_not_found":
                raise
            raise ApiError(error.message, status=404, param="model", code=error.code) from error

    def close(self) -> None:
        """Stop what runs in this process and close the store. Runners of their own go on."""
        self.runner.stop()
        self.store.close()


def _backend(request: Request) -> Backend:
    backend: Backend = request.app.state.backend
    return backend


Here = Annotated[Backend, Depends(_backend)]
"""A parameter of this type is the backend that serves the request."""


def idempotency(request: Request, *, body_sha256: str) -> Idempotency | None:
    """Return what makes this request a repeat of another one; None without an Idempotency-Key."""
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not 1 <= len(key) <= 255:  # noqa: PLR2004 - as at Stripe, which the header comes from
        raise ApiError("Idempotency-Key must have 1 to 255 characters.", code="invalid_value")
    return Idempotency(key=f"{request.url.path} {key}", body_sha256=body_sha256)
