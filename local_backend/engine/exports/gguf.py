"""Write a model as one GGUF file, as llama.cpp, Ollama and transformers read it: weights, tokenizer, chat template.

Facts about the format come from the gguf package and from how llama.cpp names things; K-quants need llama.cpp itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np
import numpy.typing as npt
import torch
from gguf import GGMLQuantizationType, LlamaFileType
from safetensors import safe_open

from local_backend.engine.template import Template
from local_backend.task import UserError

Quantisation = Literal["f16", "q8_0", "q4_0"]

_ARCHITECTURES = {
    "llama": gguf.MODEL_ARCH.LLAMA,
    "mistral": gguf.MODEL_ARCH.LLAMA,
    "qwen2": gguf.MODEL_ARCH.QWEN2,
    "qwen3": gguf.MODEL_ARCH.QWEN3,
}
_TYPES = {
    "f16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
    "q4_0": (GGMLQuantizationType.Q4_0, LlamaFileType.MOSTLY_Q4_0),
}
_BLOCK = 32
"""Weights that share a scale in Q8_0 and Q4_0; rows must be a multiple of it."""

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SPLITS = {
    rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}{{1,3}}|{_REST}": "llama-bpe",
    rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}|{_REST}": "qwen2",
}


def write_gguf(model_dir: Path, *, to: Path, quantisation: Quantisation, name: str) -> None:
    """Write the whole model in `model_dir` (safetensors) to the file `to`.

    Raises:
        UserError: GGUF has no faithful place for the architecture, its attention, or its tokenizer.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(model_dir, local_files_only=True)
    architecture = _architecture(config)
    writer = gguf.GGUFWriter(to, gguf.MODEL_ARCH_NAMES[architecture])
    _add_shape(writer, config, name=name, file_type=_TYPES[quantisation][1])
    _add_tokenizer(writer, Template.of(model_dir), config.vocab_size)
    names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    for key, tensor in _tensors(model_dir, config):
        gguf_name = names.get_name(key, try_suffixes=(".weight", ".bias"))
        if gguf_name is None:
            raise _unfit(f"the weights {key} have no place in it")
        data = (
            _permuted(key, tensor.float().numpy(), config) if architecture == gguf.MODEL_ARCH.LLAMA else tensor.numpy()
        )
        _add_tensor(writer, gguf_name, np.ascontiguousarray(data), quantisation)
    if (factors := _rope_factors(config)) is not None:
        writer.add_tensor("rope_freqs.weight", factors)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _architecture(config: Any) -> gguf.MODEL_ARCH:
    if config.model_type not in _ARCHITECTURES:
        raise _unfit(f"models of type {config.model_type!r} are not known here; known: {', '.join(_ARCHITECTURES)}")
    window = getattr(config, "sliding_window", None)
    if window is not None and window < config.max_position_embeddings and getattr(config, "use_sliding_window", True):
        raise _unfit("it has no place for this model's sliding attention window")
    if config.hidden_act != "silu":
        raise _unfit(f"the activation {config.hidden_act!r} is not known here")
    if any(getattr(config, name, False) for name in ("attention_bias", "mlp_bias")):
        raise _unfit("its readers drop the biases of this model's layers")
    if config.rope_parameters["rope_type"] not in {"default", "llama3"}:
        raise _unfit(f"rope scaling of type {config.rope_parameters['rope_type']!r} is not known here")
    return _ARCHITECTURES[config.model_type]


def _add_shape(writer: gguf.GGUFWriter, config: Any, *, name: str, file_type: LlamaFileType) -> None:
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(name)
    writer.add_file_type(file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(_head_size(config))
    writer.add_value_length(_head_size(config))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(_head_size(config))
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)


def _add_tokenizer(writer: gguf.GGUFWriter, template: Template, vocab_size: int) -> None:
    tokenizer = template.tokenizer
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_pre_tokenizer(backend))
    tokens, types = _vocabulary(tokenizer, vocab_size)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in backend["model"]["merges"]])
    writer.add_chat_template(tokenizer.chat_template)
    writer.add_add_space_prefix(value=False)
    # The chat template writes BOS where the model wants one.
    writer.add_add_bos_token(value=False)
    _add_special_ids(writer, template, vocab_size)


def _add_special_ids(writer: gguf.GGUFWriter, template: Template, vocab_size: int) -> None:
    tokenizer = template.tokenizer
    writer.add_eos_token_id(tokenizer.eos_token_id)
    others = sorted(template.stop_ids - {tokenizer.eos_token_id})
    if others:
        # Models such as Llama 3 end a turn with one token and a text with another.
        writer.add_eot_token_id(others[0])
    marks = {
        writer.add_bos_token_id: tokenizer.bos_token_id,
        writer.add_pad_token_id: tokenizer.pad_token_id,
        writer.add_unk_token_id: tokenizer.unk_token_id,
    }
    for add, token in marks.items():
        # Some tokenizers bring a padding token that the model has no room for.
        if token is not None and token < vocab_size:
            add(token)


def _vocabulary(tokenizer: Any, vocab_size: int) -> tuple[list[str], list[int]]:
    """Return every token's spelling and kind; ids that the model has but no token uses are marked so."""
    spelled = {id_: word for word, id_ in tokenizer.get_vocab().items()}
    added = tokenizer.added_tokens_decoder
    special = set(tokenizer.all_special_ids) | {id_ for id_, token in added.items() if token.special}
    tokens, types = [], []
    for id_ in range(vocab_size):
        tokens.append(spelled.get(id_, f"[PAD{id_}]"))
        if id_ not in spelled:
            types.append(gguf.TokenType.UNUSED)
        elif id_ in special:
            types.append(gguf.TokenType.CONTROL)
        else:
            types.append(gguf.TokenType.USER_DEFINED if id_ in added else gguf.TokenType.NORMAL)
    return tokens, [int(kind) for kind in types]


def _pre_tokenizer(backend: dict[str, Any]) -> str:
    """Return llama.cpp's name for how text is split before merging."""
    outer = backend.get("pre_tokenizer") or {}
    steps = outer.get("pretokenizers", [outer])
    kinds = [step.get("type") for step in steps]
    if backend["model"]["type"] == "BPE" and kinds == ["ByteLevel"] and steps[0].get("use_regex", True):
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and steps[0].get("individual_digits"):
        return "smollm"
    if kinds == ["Split", "ByteLevel"] and steps[0]["pattern"].get("Regex") in _SPLITS:
        return _SPLITS[steps[0]["pattern"]["Regex"]]
    raise _unfit("this model's way of splitting text has no name that is known here")


def _tensors(model_dir: Path, config: Any) -> Iterator[tuple[str, torch.Tensor]]:
    for file in sorted(model_dir.glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            for key in opened.keys():  # noqa: SIM118 - no mapping, though it looks like one
                if key == "lm_head.weight" and config.tie_word_embeddings:
                    continue
                yield key, opened.get_tensor(key).float()


def _permuted(key: str, data: npt.NDArray[np.float32], config: Any) -> npt.NDArray[np.float32]:
    """Reorder rotary halves: transformers keeps them one after the other, llama.cpp in pairs, for Llama only."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    n_heads = next((count for part, count in heads.items() if f".{part}." in key), None)
    if n_heads is None:
        return data
    halves = data.reshape(n_heads, 2, len(data) // n_heads // 2, *data.shape[1:])
    pairs: npt.NDArray[np.float32] = halves.swapaxes(1, 2).reshape(data.shape)
    return pairs


def _add_tensor(writer: gguf.GGUFWriter, name: str, data: npt.NDArray[np.float32], quantisation: Quantisation) -> None:
    kind = _kind_of(name, data, quantisation)
    writer.add_tensor(name, gguf.quants.quantize(data, kind), raw_dtype=kind)


def _kind_of(name: str, data: npt.NDArray[np.float32], quantisation: Quantisation) -> GGMLQuantizationType:
    if data.ndim == 1:
        return GGMLQuantizationType.F32
    if data.shape[-1] % _BLOCK:
        return GGMLQuantizationType.F16
    if quantisation == "q4_0" and name.startswith(("token_embd", "output")):
        # Four bits there cost more quality than anywhere else.
        return GGMLQuantizationType.Q8_0
    return _TYPES[quantisation][0]


def _rope_factors(config: Any) -> npt.NDArray[np.float32] | None:
    """Return Llama 3's slowing of each rotary frequency, as llama.cpp wants it; None without one."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    if config.rope_parameters["rope_type"] != "llama3":
        return None
    size, base = _head_size(config), config.rope_parameters["rope_theta"]
    plain = 1.0 / base ** (torch.arange(0, size, 2, dtype=torch.float32) / size)
    slowed, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    factors: npt.NDArray[np.float32] = (plain / slowed).numpy().astype(np.float32)
    return factors


def _head_size(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _unfit(reason: str) -> UserError:
    text = f"This model can't be written as GGUF: {reason}. Export it as `merged` instead."
    return UserError(text, param="format", code="export_not_supported")
