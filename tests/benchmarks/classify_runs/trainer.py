"""Tune and test a classifier, by transformers' Trainer: MODEL_DIR TRAIN TEST WAY EPOCHS RATE [STEPS].

It prints JSON.

It has the class that transformers offers for the model, dynamic padding, and otherwise the Trainer's defaults.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForSequenceClassification, Trainer, TrainingArguments  # noqa: F401 - loaded untimed


class Lines(torch.utils.data.Dataset):
    """Questions as token ids and labels as numbers."""

    def __init__(self, file, tokenizer, names=None):
        chats = [json.loads(line)["messages"] for line in Path(file).read_text(encoding="utf-8").splitlines()]
        answers = [chat[-1]["content"] for chat in chats]
        self.names = names or sorted(set(answers))
        self._inputs = [tokenizer(chat[-2]["content"]) for chat in chats]
        self._labels = [self.names.index(answer) for answer in answers]

    def __len__(self):
        return len(self._labels)

    def __getitem__(self, i):
        return {**self._inputs[i], "labels": self._labels[i]}


def main(model_dir, train_file, test_file, way, n_epochs, rate, steps=-1):
    """Train as the way says and count right answers."""
    transformers.set_seed(7)
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_dir)
    train = Lines(train_file, tokenizer)
    test = Lines(test_file, tokenizer, train.names)
    started, started_cpu = time.perf_counter(), time.process_time()
    model = transformers.AutoModelForSequenceClassification.from_pretrained(model_dir, num_labels=len(train.names))
    if way == "head":
        model.base_model.requires_grad_(requires_grad=False)
    with tempfile.TemporaryDirectory() as folder:
        options = transformers.TrainingArguments(
            output_dir=folder,
            num_train_epochs=float(n_epochs),
            max_steps=int(steps),
            per_device_train_batch_size=32,
            per_device_eval_batch_size=64,
            learning_rate=float(rate),
            use_cpu=True,
            report_to=[],
            save_strategy="epoch",
            logging_strategy="no",
            disable_tqdm=True,
        )
        trainer = transformers.Trainer(model=model, args=options, train_dataset=train, processing_class=tokenizer)
        trainer.train()
        train_s, cpu_s = time.perf_counter() - started, time.process_time() - started_cpu
        started = time.perf_counter()
        found = trainer.predict(test)
        test_s = time.perf_counter() - started
    accuracy = float((found.predictions.argmax(1) == found.label_ids).mean())
    print(
        json.dumps(
            {
                "train_s": train_s,
                "train_cpu_s": cpu_s,
                "test_s": test_s,
                "accuracy": accuracy,
                "steps": trainer.state.global_step,
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
