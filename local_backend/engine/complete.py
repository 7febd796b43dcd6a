"""Models are loaded whole: transformers gives weights that a file lacks random values, with no more than a warning."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local_backend.models import cache

if TYPE_CHECKING:
    import torch

NAMED_WEIGHTS = 3


class IncompleteError(ValueError):
    """A model's files lack weights, or have them in other shapes than the configuration says."""


def load_complete(
    auto_class: Any, folder: Path | str, *, is_new: Callable[[str], bool] = lambda _: False, **options: Any
) -> tuple[Any, list[str]]:
    """Load a model by one of transformers' auto classes.

    Args:
        auto_class: Such as `AutoModelForCausalLM`.
        folder: Where its files are.
        is_new: Whether a weight of that name may be missing, because the caller makes it anew.
        options: Of `from_pretrained`.

    Returns:
        The model, and the names of weights that are missing and new. Tied weights are never missing.

    Raises:
        IncompleteError: Other weights are missing, or have other shapes.
    """
    model, found = auto_class.from_pretrained(folder, **options, output_loading_info=True)
    mismatched = (key if isinstance(key, str) else key[0] for key in found["mismatched_keys"])
    lacking = sorted(name for name in (*found["missing_keys"], *mismatched) if not is_new(name))
    if lacking:
        raise IncompleteError(_words(lacking))
    return model, sorted(found["missing_keys"])


def placed(model: Any, folder: Path, device: torch.device) -> Any:
    """Move a model that was loaded from a folder to its device, and return it.

    On the CPU weights are memory maps of their files. Whoever wrote into such a file would change the model, and one
    that gets shorter ends the process, so weights of folders that anybody may write into are copied: one at a time, as
    there may be no room for all of them twice.
    """
    model = model.to(device)
    if device.type == "cpu" and not cache.is_stored(folder):
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.data = tensor.data.clone()
    return model


def _words(lacking: Iterable[str]) -> str:
    names = list(lacking)
    more = f" and {len(names) - NAMED_WEIGHTS:,} more" if len(names) > NAMED_WEIGHTS else ""
    return (
        f"its files lack weights that it needs, such as {', '.join(names[:NAMED_WEIGHTS])}{more}. They would be "
        "random. Fetch the model's files again, or choose another model."
    )
