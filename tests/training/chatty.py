"""Tiny chat models on disk: random weights, but a real tokenizer (byte-level, with merges) and a chat template."""

import json

import tokenizers
import torch
import transformers

_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_MARKS = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
_TEXT = [
    "the cat sat on the mat and the dog sat on the log",
    "日本語の文字は三つのバイトから",
    "naïve café 😀 emoji 🎉 party",
]

_SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": False,  # tied, a random model says its last token again and again
}
_CONFIGS = {
    "llama": (transformers.LlamaConfig, {"head_dim": 8}),
    "qwen2": (transformers.Qwen2Config, {}),
    "qwen3": (transformers.Qwen3Config, {"head_dim": 128}),  # as all real ones; GGUF readers take it for granted
    "mistral": (transformers.MistralConfig, {"head_dim": 8, "sliding_window": 11}),
    "gemma": (transformers.GemmaConfig, {"head_dim": 8}),
    "gemma3": (
        transformers.Gemma3TextConfig,
        {"head_dim": 8, "sliding_window": 11, "query_pre_attn_scalar": 8, "sliding_window_pattern": 2},
    ),
}
_LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "factor": 16.0,
    "original_max_position_embeddings": 72,
    "short_factor": [1.0] * 4,
    "long_factor": [1.0, 3.0, 8.0, 16.0],
}
_OTHER_CONFIGS = {
    "llama-longrope": (transformers.LlamaConfig, {"head_dim": 8, "rope_parameters": _LONGROPE}),
    "gemma2": (transformers.Gemma2Config, {"head_dim": 8, "sliding_window": 11, "query_pre_attn_scalar": 8}),
    "gpt-neox": (transformers.GPTNeoXConfig, {}),
    "mamba": (transformers.MambaConfig, {"state_size": 4}),
}
SHAPES = list(_CONFIGS)
"""Architectures that share a batch."""
OTHER_SHAPES = list(_OTHER_CONFIGS)
_VARIANT_CONFIGS = {
    "mistral-unbounded": (transformers.MistralConfig, {"head_dim": 8, "sliding_window": None}),  # as since 0.2
    "llama-biased": (transformers.LlamaConfig, {"head_dim": 8, "attention_bias": True, "mlp_bias": True}),
    "llama-gelu": (transformers.LlamaConfig, {"head_dim": 8, "hidden_act": "gelu"}),
}


def tiny_tokenizer():
    """A byte-level tokenizer of 300 tokens, trained on a few sentences: characters and words cross token borders."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300, special_tokens=_MARKS, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(_TEXT * 3, trainer)
    marks = {"eos_token": _MARKS[0], "pad_token": _MARKS[0]}
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **marks)
    fast.chat_template = _TEMPLATE
    return fast


def write_tiny(folder, shape="llama", *, seed=0):
    """Write a model's folder and return it."""
    tokenizer = tiny_tokenizer()
    kind, more = (_CONFIGS | _OTHER_CONFIGS | _VARIANT_CONFIGS)[shape]
    torch.manual_seed(seed)
    config = kind(**_SIZES, **more, vocab_size=len(tokenizer), eos_token_id=0, pad_token_id=0, bos_token_id=None)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Far from uniform, so that greedy choices are clear.
            parameter.mul_(1.0 if parameter.dim() == 1 else 40.0 if "embed" in name else 12.0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_adapter(folder, model_dir, *, seed, **options):
    """Write an adapter by peft itself, with random weights that change the model clearly; return its folder."""
    import peft

    torch.manual_seed(seed)
    base = transformers.AutoModelForCausalLM.from_pretrained(model_dir)
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM", **options)
    model = peft.get_peft_model(base, config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
            elif "magnitude" in name:
                parameter.mul_(1.3)
    model.save_pretrained(folder)
    assert json.loads((folder / "adapter_config.json").read_text())["r"] == 4
    return folder
