"""Tiny random vision-language models of real architectures, and pictures to show them."""

import base64
import io

import numpy as np
import tokenizers
import torch
import transformers
from PIL import Image
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from local_backend.engine.weights import ModelDir, weights_sha256

_TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 1,
}

_IDEFICS_TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}"
    "{{ ':' if message['content'] and message['content'][0]['type'] == 'image' else ': ' }}"
    "{% for part in message['content'] %}{{ part['text'] if part['type'] == 'text' else '<image>' }}{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
"""As SmolVLM writes conversations."""
_QWEN_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def vision_folder(shape, folder):
    """A model on disk, with tokenizer, chat template and image processor; `shape` is idefics3 or qwen2_vl."""
    torch.manual_seed(0)
    model, tokenizer, processor = (_idefics if shape == "idefics3" else _qwen)()
    with torch.no_grad():  # as transformers starts them, weights this few could learn nothing
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.mul_(20.0 if "embed_tokens" in name or "lm_head" in name else 3.0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    processor.save_pretrained(folder)
    return ModelDir(path=folder, sha256=weights_sha256(folder), name="tiny")


def _idefics():
    marks = ["<|im_start|>", "<fake_token_around_image>", "<image>", "<global-img>"]
    tokenizer = _tokenizer([*marks, *(f"<row_{i}_col_{j}>" for i in range(1, 7) for j in range(1, 7))])
    tokenizer.chat_template = _IDEFICS_TEMPLATE
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.Idefics3Config(
        vision_config={**vision, "image_size": 28, "patch_size": 7},
        text_config={"model_type": "llama", "vocab_size": len(tokenizer), **_TEXT},
        scale_factor=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=0,
    )
    processor = Idefics3ImageProcessorPil(size={"longest_edge": 56}, max_image_size={"longest_edge": 28})
    return transformers.Idefics3ForConditionalGeneration(config), tokenizer, processor


def _qwen():
    marks = ["<|im_start|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    tokenizer = _tokenizer(marks)
    tokenizer.chat_template = _QWEN_TEMPLATE
    ids = {f"{mark[2:-2]}_token_id": tokenizer.convert_tokens_to_ids(mark) for mark in marks[1:]}
    positions = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10_000.0}
    config = transformers.Qwen2VLConfig(
        vision_config={"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2, "patch_size": 7},
        text_config={"vocab_size": len(tokenizer), "rope_parameters": positions, **_TEXT},
        image_token_id=ids["image_pad_token_id"],
        video_token_id=ids["video_pad_token_id"],
        vision_start_token_id=ids["vision_start_token_id"],
        vision_end_token_id=ids["vision_end_token_id"],
    )
    processor = Qwen2VLImageProcessorPil(patch_size=7, merge_size=2, min_pixels=14 * 14, max_pixels=42 * 42)
    return transformers.Qwen2VLForConditionalGeneration(config), tokenizer, processor


def _tokenizer(marks):
    """Bytes as tokens, and the marks of a family."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    specials = ["<s>", "<|im_end|>", *marks]
    backend = tokenizers.Tokenizer(
        tokenizers.models.BPE(vocab={token: i for i, token in enumerate([*specials, *alphabet])}, merges=[])
    )
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    backend.add_special_tokens(specials)
    named = {"bos_token": "<s>", "eos_token": "<|im_end|>", "pad_token": "<s>"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **named)


def picture(shade, size=(40, 30)):
    """A picture in one shade with some noise, as PNG."""
    noise = np.random.default_rng(shade).integers(0, 30, (size[1], size[0], 3))
    target = io.BytesIO()
    Image.fromarray((noise + shade).astype(np.uint8)).save(target, "PNG")
    return target.getvalue()


def image_part(content):
    """A picture as a part of a message."""
    return {"type": "image_url", "image_url": {"url": "data:image/png;base64," + base64.b64encode(content).decode()}}


def text_part(text):
    """Text as a part of a message."""
    return {"type": "text", "text": text}


def seen(answer, *parts):
    """A chat example about what `parts` show."""
    return {"messages": [{"role": "user", "content": list(parts)}, {"role": "assistant", "content": answer}]}
