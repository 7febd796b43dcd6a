"""Tiny random models of the supported shapes, and the straightforward reference: one sequence at a time."""

import functools
import json
from types import SimpleNamespace

import tokenizers
import torch
import transformers

from local_backend.engine.device import Machine
from local_backend.engine.network import Network
from local_backend.engine.template import Rendered
from local_backend.engine.weights import ModelDir, weights_sha256
from local_backend.task import Hyperparameters, ModelRef, Signal, Task

NO_TIME = SimpleNamespace(perf_counter=lambda: 0.0)
"""In place of the module `time`, for a plan that would add what laying out took here, which depends on the moment."""

_SIZES = {
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

_LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 32,
    "short_factor": [1.0] * 4,
    "long_factor": [1.0, 2.0, 3.0, 4.0],
}
_DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
_CONFIGS = {
    "llama": lambda: transformers.LlamaConfig(**_SIZES, tie_word_embeddings=True),
    "llama-biased": lambda: transformers.LlamaConfig(**_SIZES, attention_bias=True, mlp_bias=True),
    "llama-longrope": lambda: transformers.LlamaConfig(**_SIZES, rope_parameters=_LONGROPE),
    "llama-dynamic": lambda: transformers.LlamaConfig(
        **{**_SIZES, "max_position_embeddings": 100}, rope_parameters=_DYNAMIC
    ),
    "qwen2": lambda: transformers.Qwen2Config(**{k: v for k, v in _SIZES.items() if k != "head_dim"}),
    "qwen3": lambda: transformers.Qwen3Config(**_SIZES),
    "mistral": lambda: transformers.MistralConfig(**_SIZES, sliding_window=7),
    "gemma": lambda: transformers.GemmaConfig(**_SIZES),
    "gemma2": lambda: transformers.Gemma2Config(**_SIZES, sliding_window=7, query_pre_attn_scalar=8),
    "gemma3": lambda: transformers.Gemma3TextConfig(**_SIZES, sliding_window=7, query_pre_attn_scalar=8),
    "cohere": lambda: transformers.CohereConfig(
        **{k: v for k, v in _SIZES.items() if k != "head_dim"}, logit_scale=0.25
    ),
    "gpt-neox": lambda: transformers.GPTNeoXConfig(
        vocab_size=97, hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=6
    ),
}
PACKED_SHAPES = [name for name in _CONFIGS if name not in {"gpt-neox", "cohere", "llama-longrope", "llama-dynamic"}]


def tiny_model(shape, *, dtype=torch.float64, seed=0):
    """A model with random weights, biases and norms, so that nothing is hidden by zeros or ones."""
    torch.manual_seed(seed)
    # Eager attention rounds its softmax to fp32, but knows Gemma 2's capped scores.
    attention = "eager" if shape == "gemma2" else "sdpa"
    model = transformers.AutoModelForCausalLM.from_config(_CONFIGS[shape](), attn_implementation=attention).to(dtype)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                noise = torch.randn(parameter.shape, generator=generator) * 0.2
                parameter.add_(noise.to(dtype))
            elif "embed" not in name:
                parameter.mul_(4.0)
    if dtype is torch.float64:
        _keep_norms_in_double(model)
    return model


def _keep_norms_in_double(model):
    """Transformers rounds its norms to fp32, which is more than what the comparison allows."""
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            is_gemma = not hasattr(module, "variance_epsilon")
            eps = module.eps if is_gemma else module.variance_epsilon
            module.forward = functools.partial(_rms_norm, module, eps, 1.0 if is_gemma else 0.0)


def _rms_norm(module, eps, offset, x):
    return x / torch.sqrt(x.square().mean(-1, keepdim=True) + eps) * (module.weight + offset)


def network_of(model):
    """The model as the engine trains it."""
    dtype = next(model.parameters()).dtype
    return Network(model, Machine(device=torch.device("cpu"), dtype=dtype, precision_reason="test", threads=1))


def reference_loss(model, sequences):
    """sum(w * nll) / sum(w), by the model's own forward pass, one sequence at a time."""
    total = torch.zeros((), dtype=torch.float64)
    weight = 0.0
    for sequence in sequences:
        logits = model(input_ids=torch.tensor([sequence.ids]), use_cache=False).logits[0, :-1]
        nll = torch.nn.functional.cross_entropy(logits, torch.tensor(sequence.ids[1:]), reduction="none")
        weights = torch.tensor(sequence.weights[1:], dtype=nll.dtype)
        total = total + (nll * weights).sum()
        weight += sum(sequence.weights[1:])
    return total / weight


def gradients(network):
    """Gradients of what trains, by name."""
    return {name: parameter.grad.clone() for name, parameter in network.parameters()}


def sequence(ids, weights=None):
    """A rendered sequence; by default all but the first token is trained."""
    return Rendered(list(ids), [0.0, *([1.0] * (len(ids) - 1))] if weights is None else list(weights))


_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_tokenizer(template=_TEMPLATE):
    """Bytes as tokens, ChatML marks, and a template that writes BOS."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    specials = ["<s>", "<|im_start|>", "<|im_end|>"]
    vocabulary = {token: i for i, token in enumerate([*specials, *alphabet])}
    backend = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    backend.add_special_tokens(specials)
    marks = {"bos_token": "<s>", "eos_token": "<|im_end|>", "additional_special_tokens": ["<|im_start|>"]}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **marks)
    tokenizer.chat_template = template
    return tokenizer


def tiny_folder(folder, **sizes):
    """A model on disk, with tokenizer and chat template; `sizes` replace those of tiny models."""
    torch.manual_seed(0)
    sizes = {**_SIZES, "vocab_size": 259, "bos_token_id": 0, "eos_token_id": 2, **sizes}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, tie_word_embeddings=True))
    with torch.no_grad():  # as transformers starts them, weights this few could learn nothing
        model.model.embed_tokens.weight.mul_(20.0)
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return ModelDir(path=folder, sha256=weights_sha256(folder), name="tiny")


def chat(question, answer, **message):
    """A chat example."""
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer, **message}]}


WORDS = ["red", "green", "blue", "black", "white", "pink", "grey", "gold", "teal", "lime", "plum"]


def words_jsonl(folder):
    """A training file of short questions about WORDS."""
    return write_jsonl(folder / "train.jsonl", [chat(f"What is {word}?", word.upper()) for word in WORDS])


def write_jsonl(path, examples):
    """Write examples as a training file."""
    path.write_text("".join(json.dumps(example) + "\n" for example in examples), encoding="utf-8")
    return path


def task_of(folder, training, *, validation=None, method="supervised", local=None, tuned_dir=None, **hyperparameters):
    """A task on the tiny model; one thread, so that it does not depend on the machine."""
    numbers = {"n_epochs": 2, "batch_size": 4, "learning_rate_multiplier": 1.0, **hyperparameters}
    local = {"learning_rate": 1e-2, **(local or {})}
    return Task(
        job_id="ftjob-test",
        model=ModelRef(base="tiny", tuned_dir=tuned_dir),
        method=method,
        training_path=training,
        validation_path=validation,
        hyperparameters=Hyperparameters(**numbers),
        seed=7,
        local={**local, "runtime": {"threads": 1, **local.get("runtime", {})}},
        work_dir=folder,
    )


class Recording:
    """A recorder in memory; `signals` says what is wanted after a step."""

    def __init__(self, signals=None):
        self.facts = {}
        self.reports = []
        self.checkpoints = []
        self.best_step = None
        self.signals = signals or {}

    def started(self, facts):
        """Keep the facts."""
        self.facts |= facts

    def step(self, report):
        """Keep the report; drop what was known, as the store does."""
        if not any(known.step == report.step for known in self.reports):
            self.reports.append(report)
        return self.signals.get(report.step, Signal.GO_ON)

    def checkpoint(self, *, step, model_dir, metrics, best_step=None):
        """Keep the checkpoint."""
        self.best_step = best_step
        self.checkpoints.append((step, model_dir, metrics))

    def signal(self):
        """Go on."""
        return Signal.GO_ON
