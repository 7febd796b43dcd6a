"""Vision Transformers: what was learned of the digits 0 to 4 helps with 5 to 9, of which 200 images are given.

A small ViT is pre-trained here; each way of tuning is a job of the engine. Options: `--picture FILE` writes the three
validation curves as .svg or .png.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.runner import Options, Result

PRETRAIN_LIMIT_S = 180
N_IMAGES, N_TESTS, PRETRAIN_EPOCHS, EPOCHS = 2_400, 2_000, 15, 20


def run(options: Options) -> Iterator[Result]:
    """Pre-train, tune in three ways, compare on images that no job has seen."""
    import local_backend.engine  # noqa: F401 - sets how OpenMP waits, before torch is imported
    from ftclient.jobs.curves_image import write_jobs
    from tests.training.digits import accuracy, metrics, transfer

    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks vit")
    parser.add_argument("--picture", type=Path)
    picture = parser.parse_args(options.rest).picture
    n_images, n_tests = (max(100, round(options.scale * n)) for n in (N_IMAGES, N_TESTS))
    with tempfile.TemporaryDirectory() as folder:
        _, jobs = transfer(
            Path(folder),
            n_pretrained=n_images,
            pretrain_epochs=PRETRAIN_EPOCHS,
            epochs=EPOCHS,
            n_tests=n_tests,
            threads=2,
            crop=0.15,
        )
    seconds = jobs.pop("pre-trained").seconds
    yield Result(
        name="pre-training of the small ViT",
        value=seconds,
        unit="s",
        reach=f"< {PRETRAIN_LIMIT_S}",
        ok=seconds < PRETRAIN_LIMIT_S,
    )
    shares = {name: accuracy(job) for name, job in jobs.items()}
    below = {"fine-tuned": "last layer only", "last layer only": "from scratch"}
    for name, share in shares.items():
        other = below.get(name)
        yield Result(
            name=f"digits 5 to 9, {name}",
            value=100 * share,
            unit="% right",
            reach="" if other is None else f"> {100 * shares[other]:.1f}",
            ok=None if other is None else share > shares[other],
            details={"seconds": round(jobs[name].seconds, 1), "tests": n_tests},
        )
    if picture is not None:
        write_jobs({name: metrics(job) for name, job in jobs.items()}, picture, title="Digits 5 to 9 from 200 images")
