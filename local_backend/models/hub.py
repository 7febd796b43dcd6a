"""Download a model from the Hugging Face hub: safetensors, config and tokenizer, nothing that could run code."""

from __future__ import annotations

import os
import queue
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local_backend.models.names import HubName
from local_backend.task import UserError

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

Progress = Callable[[str, int, "int | None"], None]
"""Called with a file's name, the bytes there so far, and its size where known."""

GIVE_UP_S = 5.0
"""How long an unreachable hub is waited for, name look-up included."""

_WEIGHTS = re.compile(r"model(-\d+-of-\d+)?\.safetensors(\.index\.json)?")
_TEXTS = re.compile(
    r"(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab|processor_config)\.json|"
    r"(video_)?preprocessor_config\.json|merges\.txt|tokenizer\.model|chat_template\.(jinja|json)|LICENSE(\.\w+)?|"
    r"vocab\.txt|spiece\.model|sentencepiece\.bpe\.model|1_Pooling/config\.json"
)


class HubUnreachableError(Exception):
    """The hub does not answer here; the text is the reason."""


def download(name: HubName, *, to: Path, progress: Progress | None) -> str:
    """Download into `to`, going on with files that were begun, and return the commit that was fetched.

    Raises:
        HubUnreachableError: No answer within `GIVE_UP_S`, or the connection broke (what arrived is kept).
        UserError: The hub says no: no such model, terms not accepted, or no safetensors in it.
    """
    info = _within_deadline(lambda: _look_up(name))
    sizes = {item.rfilename: item.size for item in info.siblings or [] if is_wanted(item.rfilename)}
    if not any(file.endswith(".safetensors") for file in sizes):
        raise UserError(
            f"{name.repo} has no safetensors weights; other formats are not loaded. Use a repository that has them.",
            param="model",
            code="model_not_supported",
        )
    for file in sorted(sizes):
        _download_file(name.repo, file, commit=str(info.sha), to=to, progress=progress)
    return str(info.sha)


def is_wanted(file: str) -> bool:
    """Whether a file of a model's folder is one of those that are loaded: weights, configuration, tokenizer."""
    return bool(_WEIGHTS.fullmatch(file) or _TEXTS.fullmatch(file))


def _look_up(name: HubName) -> ModelInfo:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    try:
        return api.model_info(name.repo, revision=name.revision, timeout=GIVE_UP_S, files_metadata=True)
    except GatedRepoError as error:
        raise _gated(name) from error
    except RevisionNotFoundError as error:
        text = f"{name.repo} has no revision {name.revision!r} on the hub."
        raise UserError(text, param="model", code="model_not_found") from error
    except RepositoryNotFoundError as error:
        text = f"The hub knows no model {name.repo!r}, or it is private: check the spelling, or set HF_TOKEN."
        raise UserError(text, param="model", code="model_not_found") from error


def _download_file(repo: str, file: str, *, commit: str, to: Path, progress: Progress | None) -> None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import GatedRepoError

    try:
        hf_hub_download(
            repo,
            file,
            revision=commit,
            local_dir=to,
            endpoint=os.environ.get("HF_ENDPOINT"),
            etag_timeout=GIVE_UP_S,
            tqdm_class=_bar(file, progress),
        )
    except GatedRepoError as error:
        raise _gated(HubName(repo=repo, revision=commit)) from error
    except Exception as error:
        if _is_network_error(error):
            raise HubUnreachableError(f"{type(error).__name__} while fetching {file}") from error
        raise


def _gated(name: HubName) -> UserError:
    return UserError(
        f"{name.repo} is gated: accept its terms on its page at the Hugging Face hub, then set HF_TOKEN.",
        param="model",
        code="model_gated",
    )


def _bar(file: str, progress: Progress | None) -> type[Any]:
    """Return a progress bar class for huggingface_hub that draws nothing and tells `progress`."""
    from tqdm.auto import tqdm

    class Bar(tqdm):  # type: ignore[misc]  # tqdm ships no types
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})
            self._done = int(kwargs.get("initial") or 0)
            self._size = kwargs.get("total")

        def update(self, n: float | None = 1) -> bool | None:
            self._done += int(n or 0)
            if progress is not None:
                progress(file, self._done, self._size)
            return None

    return Bar


def _within_deadline(look_up: Callable[[], ModelInfo]) -> ModelInfo:
    """Run a look-up for at most `GIVE_UP_S`: a client's own time-outs do not cover the name look-up."""
    answers: queue.Queue[Any] = queue.Queue()

    def work() -> None:
        try:
            answers.put(look_up())
        except Exception as error:  # noqa: BLE001 - handed to the waiting thread, which raises it
            answers.put(error)

    threading.Thread(target=work, daemon=True, name="hub-look-up").start()
    try:
        answer = answers.get(timeout=GIVE_UP_S)
    except queue.Empty:
        raise HubUnreachableError(f"no answer within {GIVE_UP_S:.0f} s") from None
    if isinstance(answer, Exception):
        if _is_network_error(answer):
            raise HubUnreachableError(type(answer).__name__) from answer
        raise answer
    return answer  # type: ignore[no-any-return]  # neither of the errors above


def _is_network_error(error: Exception) -> bool:
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    return isinstance(error, (httpx2.TransportError, HfHubHTTPError, ConnectionError, TimeoutError))
