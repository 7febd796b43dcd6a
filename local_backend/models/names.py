"""From the name that a user writes to the one name that everything else uses."""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_backend.models.catalogue import CATALOGUE
from local_backend.settings import Settings
from local_backend.task import ModelRef, UserError

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[A-Za-z0-9][\w./-]*)?", re.ASCII)
_ALIAS_DEPTH = 8
_ADAPTER_CONFIG = "adapter_config.json"


@dataclass(frozen=True, kw_only=True)
class HubName:
    """A repository on the Hugging Face hub, at a revision (None: the newest)."""

    repo: str
    revision: str | None


def resolve(name: str, *, settings: Settings) -> str:
    """Return the canonical name of a base model: a catalogue name, a hub id (`owner/name[@revision]`) or a path.

    Aliases of the settings come first, so that code written for hosted names runs unchanged; a hub id that the
    catalogue knows (without a revision, or at the catalogue's own) becomes its short name.

    Raises:
        UserError: No such model, or a path where paths are not allowed (`code` is `model_not_found`).
    """
    target = _follow_aliases(name, settings)
    if target in CATALOGUE:
        return target
    if looks_like_path(target):
        return _allowed_path(target, settings)
    if _HUB_ID.fullmatch(target) and ".." not in target:
        return _short_name(target)
    raise UserError(_unknown_text(name, settings), param="model", code="model_not_found")


def reference(name: str, *, settings: Settings) -> ModelRef:
    """Return what a name stands for: a base model or, for a folder that holds an adapter, that on its base model.

    Raises:
        UserError: As `resolve`, for the name or for the base model that the adapter names.
    """
    canonical = resolve(name, settings=settings)
    folder = Path(canonical)
    if not looks_like_path(canonical) or not (folder / _ADAPTER_CONFIG).is_file():
        return ModelRef(base=canonical)
    config = adapter_config(folder)
    base, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not isinstance(base, str):
        raise _unfit_config(folder, "names no base model (`base_model_name_or_path`)")
    if revision and not looks_like_path(base) and "@" not in base:
        base = f"{base}@{revision}"
    return ModelRef(base=resolve(base, settings=settings), tuned_dir=folder)


def adapter_config(folder: Path) -> dict[str, Any]:
    """Return what an adapter says of itself, in PEFT's format.

    Raises:
        UserError: Its file is no JSON object.
    """
    try:
        config = json.loads((folder / _ADAPTER_CONFIG).read_text("utf-8"))
    except ValueError:
        config = None
    if not isinstance(config, dict):
        raise _unfit_config(folder, "is no JSON object")
    return config


def looks_like_path(name: str) -> bool:
    """Tell whether the name is meant as a file or folder on this machine."""
    return name.startswith(("/", "./", "../", "~"))


def hub_name(canonical: str) -> HubName:
    """Return where on the hub a canonical name (not a path) lives."""
    known = CATALOGUE.get(canonical)
    if known is not None:
        return HubName(repo=known.hub_id, revision=known.revision)
    repo, _, revision = canonical.partition("@")
    return HubName(repo=repo, revision=revision or None)


def _unfit_config(folder: Path, reason: str) -> UserError:
    text = f"The {_ADAPTER_CONFIG} in {folder.name} {reason}, so it is not known how to use the adapter."
    return UserError(text, param="model", code="model_not_supported")


def _follow_aliases(name: str, settings: Settings) -> str:
    target = name
    for _ in range(_ALIAS_DEPTH):
        if target not in settings.aliases:
            return target
        target = settings.aliases[target]
    raise UserError(f"The alias {name!r} leads in a circle; correct `aliases`.", param="model", code="model_not_found")


def _allowed_path(text: str, settings: Settings) -> str:
    if not settings.allow_local_paths:
        raise UserError(
            "A path as model is not allowed here. Use a hub id, or allow paths: `ftclient serve --allow-local-paths`, "
            "Client.local(allow_local_paths=True).",
            param="model",
            code="model_not_found",
        )
    path = Path(text).expanduser().resolve()
    if not path.exists():
        raise UserError(f"There is no model at {text}.", param="model", code="model_not_found")
    return str(path)


def _short_name(hub_id: str) -> str:
    repo, _, revision = hub_id.partition("@")
    for model in CATALOGUE.values():
        if model.hub_id.lower() == repo.lower() and revision in ("", model.revision):
            return model.name
    return hub_id


def _unknown_text(name: str, settings: Settings) -> str:
    names = [*CATALOGUE, *settings.aliases]
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return (
        f"The model {name[:80]!r} is not known here.{hint} Known: {', '.join(names)};"
        " or any hub id such as owner/name@revision; other names can be set as aliases."
    )
