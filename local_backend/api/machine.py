"""`/v1/local/machine` and `/v1/local/models`: what this machine is and has."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from local_backend.api.backend import Backend, Here
from local_backend.models import CATALOGUE, stored
from local_backend.runner import is_running
from local_backend.store.work import runner_row

router = APIRouter(prefix="/v1/local")


@router.get("/machine")
def machine(here: Here) -> JSONResponse:
    """Say what trains here, how much room there is, and whether a runner is at work."""
    alive = is_running(here.settings)
    row = runner_row(here.store) if alive else None
    return JSONResponse(
        {
            "engine": here.settings.engine,
            **_device(here),
            "memory_bytes": memory_bytes(),
            "free_disk_bytes": shutil.disk_usage(here.store.folder).free,
            "home": str(here.settings.home),
            "runner": {"alive": alive, "pid": row.pid if row else None, "job": row.job if row else None},
            "models": _models(here),
        }
    )


@router.get("/models")
def base_models(here: Here) -> JSONResponse:
    """Say which base models are on this machine; torch is not loaded for that."""
    return JSONResponse({"engine": here.settings.engine, "models": _models(here)})


def memory_bytes() -> int:
    """The machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _device(here: Backend) -> dict[str, Any]:
    """What the engine computes with; torch's own answer where it trains."""
    describe: Callable[[], dict[str, Any]] | None = getattr(here.engines.get(here.settings.engine), "describe", None)
    facts = describe() if describe is not None else {}
    defaults = {"device": None, "precision": None, "precision_reason": None, "torch": None, "threads": os.cpu_count()}
    return {name: facts.get(name, value) for name, value in defaults.items()}


def _models(here: Backend) -> list[dict[str, Any]]:
    on_disk = {source.name: source for source in stored(settings=here.settings)}
    names = dict.fromkeys([*CATALOGUE, *on_disk])
    return [
        {
            "name": name,
            "size_bytes": getattr(on_disk.get(name), "size_bytes", None),
            "cached": name in on_disk,
        }
        for name in names
    ]
