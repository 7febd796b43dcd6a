"""Turn a GGUF file into a folder of safetensors with tokenizer, chat template and generation config."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from local_backend.engine.complete import load_complete
from local_backend.engine.quiet import quiet
from local_backend.task import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def convert(gguf: Path, *, to: Path) -> None:
    """Read `gguf` and write the folder `to`.

    The weights become fp32: a quantised block is scale * integer + offset with fp16 scale and offset, which bf16
    or fp16 would round once more.

    Raises:
        UserError: The architecture or the tokenizer in the file is not known, or weights are missing.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    place, file = str(gguf.parent), gguf.name
    try:
        # The reader's own bar obeys no setting.
        with quiet(stderr=True):
            source: dict[str, Any] = {"gguf_file": file, "local_files_only": True}
            # The plain class, and the config handed on: AutoTokenizer and AutoModel would read the header once more
            # each, which takes seconds.
            tokenizer = PreTrainedTokenizerFast.from_pretrained(place, **source)
            config = AutoConfig.from_pretrained(place, **source)
            model, _ = load_complete(AutoModelForCausalLM, place, config=config, dtype=torch.float32, **source)
    except (ValueError, RuntimeError, NotImplementedError, KeyError) as error:
        text = f"{file} can't be read: {str(error)[:300].rstrip('.')}. Use the model's safetensors instead."
        raise UserError(text, param="model", code="model_not_supported") from error
    _forget_quantisation(model)
    with quiet():
        model.save_pretrained(to)
        tokenizer.save_pretrained(to)


def _forget_quantisation(model: PreTrainedModel) -> None:
    """The weights are plain fp32 by now; transformers would refuse to save them as long as it thinks otherwise."""
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    # Else the config would claim a name of its own (GGUF's `general.name`).
    model.config._name_or_path = ""  # noqa: SLF001 - transformers has no public setter
