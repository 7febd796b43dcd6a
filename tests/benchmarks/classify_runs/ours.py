"""Tune a classifier with this engine and test it: MODEL_DIR TRAIN TEST WAY N_EPOCHS; prints JSON."""

import json
import sys
import tempfile
import time
from pathlib import Path

import local_backend.engine  # noqa: F401 - before torch: it sets OpenMP's wait policy

# isort: split
from transformers import AutoModel, AutoTokenizer  # noqa: F401 - loaded before the time starts

from local_backend.engine.classify import loop, saving
from local_backend.engine.classify.examples import read_examples
from local_backend.engine.classify.kinds import kind_of
from local_backend.engine.device import choose_machine
from local_backend.engine.weights import ModelDir
from local_backend.task import Hyperparameters, ModelRef, Signal, Task


class Silent:
    """A recorder that keeps nothing but the number of steps."""

    steps = 0

    def started(self, facts):
        del facts

    def step(self, report):
        self.steps = report.step
        return Signal.GO_ON

    def checkpoint(self, *, step, model_dir, metrics, best_step=None):
        del step, model_dir, metrics, best_step

    def signal(self):
        return Signal.GO_ON


def main(model_dir, train_file, test_file, way, n_epochs):
    """Train, load what was written, and answer every line of the test file."""
    model_dir = Path(model_dir)
    with tempfile.TemporaryDirectory() as work:
        task = Task(
            job_id="benchmark",
            model=ModelRef(base=str(model_dir)),
            method="supervised",
            training_path=Path(train_file),
            validation_path=None,
            hyperparameters=Hyperparameters(n_epochs=int(n_epochs), batch_size=32, learning_rate_multiplier=1.0),
            seed=7,
            local={"tune": {"type": way}},
            work_dir=Path(work),
        )
        kind, silent = kind_of(model_dir), Silent()
        started, started_cpu = time.perf_counter(), time.process_time()
        outcome = loop.train(
            task, base=ModelDir(path=model_dir, sha256="", name="minilm-l6"), kind=kind, recorder=silent
        )
        train_s, cpu_s = time.perf_counter() - started, time.process_time() - started_cpu
        started = time.perf_counter()
        accuracy = _test(outcome.model_dir, Path(test_file))
        test_s = time.perf_counter() - started
    figures = {"train_s": train_s, "train_cpu_s": cpu_s, "test_s": test_s, "accuracy": accuracy}
    print(json.dumps({**figures, "steps": silent.steps}))


def _test(folder, test_file):
    classifier = saving.load(folder, machine=choose_machine({"precision": "fp32"}))
    examples = list(read_examples(test_file, param="validation_file"))
    read = classifier.body.reader.read
    inputs = [read(one.text, one.images, line=one.line, param="validation_file") for one in examples]
    given = classifier.predict(inputs).argmax(1).tolist()
    names = classifier.labels.names
    return sum(names[i] == one.labels[0] for i, one in zip(given, examples, strict=True)) / len(examples)


if __name__ == "__main__":
    main(*sys.argv[1:])
