"""Tiny text encoders on disk, random but of real architectures, and sentences of three kinds for them to tell apart."""

import json
import random

import torch
import transformers

from local_backend.engine.device import Machine
from local_backend.engine.weights import ModelDir
from local_backend.task import Hyperparameters, ModelRef, Task

WORDS = {
    "fruit": ["apple", "pear", "plum", "cherry", "melon"],
    "tool": ["hammer", "saw", "drill", "wrench", "pliers"],
    "animal": ["cat", "horse", "otter", "heron", "mole"],
}
_COMMON = ["the", "a", "is", "on", "my", "very", "old", "and", "new", "see", "i"]
_SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 40,
}
CPU = Machine(device=torch.device("cpu"), dtype=torch.float32, precision_reason="test", threads=1)


def write_encoder(folder, kind="bert", *, pooling=None, seed=0):
    """Write an encoder's folder; `pooling` as a sentence encoder says it (`mean` or `cls`)."""
    folder.mkdir(parents=True, exist_ok=True)
    words = [*_COMMON, *(word for group in WORDS.values() for word in group)]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    (folder / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    transformers.BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(seed)
    configs = {
        "bert": transformers.BertConfig,
        "roberta": transformers.RobertaConfig,
        "distilbert": transformers.DistilBertConfig,
    }
    sizes = _SIZES
    if kind == "distilbert":
        sizes = {"dim": 32, "hidden_dim": 64, "n_layers": 3, "n_heads": 4, "max_position_embeddings": 40}
    model = transformers.AutoModel.from_config(configs[kind](vocab_size=len(vocabulary), pad_token_id=0, **sizes))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Words count more than their places, and nothing is hidden by zeros or ones.
            scale = 20.0 if "word_embeddings" in name else 2.0
            parameter.add_(torch.randn_like(parameter) * 0.1) if parameter.dim() == 1 else parameter.mul_(scale)
    model.save_pretrained(folder)
    if pooling:
        (folder / "1_Pooling").mkdir()
        said = {"pooling_mode_mean_tokens": pooling == "mean", "pooling_mode_cls_token": pooling == "cls"}
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(said), encoding="utf-8")
    return folder


def sentences(n, *, seed=0, kinds=tuple(WORDS)):
    """Chat examples whose answer is the kind of thing that the question names."""
    dice = random.Random(seed)
    found = []
    for i in range(n):
        kind = kinds[i % len(kinds)]
        words = [*dice.choices(_COMMON, k=dice.choice([1, 1, 2, 3, 7])), *dice.choices(WORDS[kind], k=2)]
        dice.shuffle(words)
        found.append(example(" ".join(words), kind))
    return found


def example(text, label):
    """One chat example."""
    answer = label if isinstance(label, str) else json.dumps(label)
    return {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]}


def write_examples(path, examples):
    """Write a chat file."""
    path.write_text("".join(json.dumps(one) + "\n" for one in examples), encoding="utf-8")
    return path


def base_of(folder):
    """The folder as a base model."""
    return ModelDir(path=folder, sha256="0" * 64, name=str(folder))


def task_of(work, training, base, *, validation=None, local=None, tuned_dir=None, **numbers):
    """A classifier's task on one thread."""
    found = {"n_epochs": 6, "batch_size": 8, "learning_rate_multiplier": 5.0, **numbers}
    return Task(
        job_id="ftjob-test",
        model=ModelRef(base=str(base), tuned_dir=tuned_dir),
        method="supervised",
        training_path=training,
        validation_path=validation,
        hyperparameters=Hyperparameters(**found),
        seed=5,
        local={"runtime": {"threads": 1}, "task": "classify", **(local or {})},
        work_dir=work,
    )
