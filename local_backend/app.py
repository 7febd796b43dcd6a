"""The ASGI app: OpenAI's contract under `/v1`, our own endpoints under `/v1/local`."""

from __future__ import annotations

from fastapi import FastAPI

from local_backend.api import (
    chat,
    errors,
    files,
    graders,
    jobs,
    local,
    machine,
    models,
    plan,
    scoring,
    uploads,
    weights,
)
from local_backend.api.backend import Backend
from local_backend.api.guard import Guard
from local_backend.settings import Settings


def create_app(settings: Settings) -> FastAPI:
    """Open a home and return the app that serves it; unfinished jobs of the home go on at once.

    `app.state.backend.close()` lets go of the home.

    Raises:
        StoreError: The home cannot be used.
    """
    app = FastAPI(title="local_backend", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.state.backend = Backend(settings)
    errors.install(app)
    for module in (files, uploads, jobs, models, chat, graders, local, plan, machine, weights, scoring):
        app.include_router(module.router)
    app.include_router(models.permissions)
    app.add_middleware(Guard, token=settings.token)
    return app
