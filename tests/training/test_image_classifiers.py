"""Vision Transformers learn new classes from what they know of others, through the same jobs and the same chat."""

import base64
import io
import json
import math
import re
import sys
import time

import numpy as np
import openai
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file

from ftclient.data import LOCAL_LIMITS, Dataset
from ftclient.data.decoding import decode
from ftclient.jobs.curves_image import write_jobs
from local_backend import in_process
from local_backend.engine.classify import features, saving
from local_backend.engine.device import choose_machine
from local_backend.engine.weights import ModelDir
from local_backend.images import from_url
from local_backend.settings import Settings
from local_backend.task import JobError, Signal
from tests.e2e.serving import run_program
from tests.faults.images import encoded, png_of_size
from tests.training.digits import (
    accuracy,
    chosen,
    classify,
    example,
    metrics,
    save_processor,
    transfer,
    vit_folder,
    write_digits,
)

FEW_IMAGES, FEW_LABELS = chosen(range(5, 10), n=60)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return vit_folder(tmp_path_factory.mktemp("vit"), patch=7, n_blocks=2)


@pytest.fixture
def few(tmp_path):
    return write_digits(tmp_path / "few.jsonl", FEW_IMAGES, FEW_LABELS)


@pytest.mark.slow
def test_what_is_known_of_some_digits_helps_with_others(tmp_path):
    """Digits 0 to 4 first, then 200 images of 5 to 9; `python -m tests.benchmarks vit` does it at full size."""
    _, jobs = transfer(tmp_path, n_pretrained=800, pretrain_epochs=10, epochs=6, n_tests=200)
    ways = {name: job for name, job in jobs.items() if name != "pre-trained"}
    assert accuracy(ways["fine-tuned"]) > accuracy(ways["last layer only"]) > accuracy(ways["from scratch"]) > 0.2
    svg = write_jobs({name: metrics(job) for name, job in ways.items()}, tmp_path / "ways.svg", title="Digits 5 to 9")
    assert svg.read_text().count("<polyline") == 6  # accuracy and loss
    assert (
        write_jobs({name: metrics(job) for name, job in ways.items()}, tmp_path / "ways.png", title="Digits 5 to 9")
        .read_bytes()
        .startswith(b"\x89PNG")
    )


def test_a_job_from_upload_to_probabilities_by_the_official_client(base, few, tmp_path):
    settings = Settings(home=tmp_path / "home", cache=tmp_path, runner="thread", allow_local_paths=True)
    with in_process.client(settings) as client:
        file = client.files.create(file=io.BytesIO(few.read_bytes()), purpose="fine-tune")
        job = client.fine_tuning.jobs.create(training_file=file.id, model=str(base.path), extra_body=_local("head"))
        while (job := client.fine_tuning.jobs.retrieve(job.id)).status not in {"succeeded", "failed"}:
            time.sleep(0.05)
        assert job.status == "succeeded", job.error
        messages = example(FEW_IMAGES[0], FEW_LABELS[0])["messages"][:-1]
        said = client.chat.completions.create(
            model=job.fine_tuned_model, messages=messages, logprobs=True, top_logprobs=5
        )
        top = said.choices[0].logprobs.content[0].top_logprobs
        assert said.choices[0].message.content == top[0].token
        assert {one.token for one in top} == {"5", "6", "7", "8", "9"}
        assert math.fsum(math.exp(one.logprob) for one in top) == pytest.approx(1, abs=1e-5)
        for content, words in (("Which digit?", "no image"), ([*messages[0]["content"] * 2], "2 images")):
            with pytest.raises(openai.BadRequestError, match=words):
                client.chat.completions.create(
                    model=job.fine_tuned_model, messages=[{"role": "user", "content": content}]
                )
        with pytest.raises(openai.BadRequestError, match="has no labels to answer with until it is tuned"):
            client.chat.completions.create(model=str(base.path), messages=messages)


def _local(tune):
    return {"local": {"tune": {"type": tune}, "runtime": {"threads": 1}}}


def test_transformers_loads_the_result_and_agrees_with_it(base, few, tmp_path):
    job = classify(base, tmp_path / "job", few, local={"tune": {"type": "full"}}, n_epochs=2)
    theirs = transformers.AutoModelForImageClassification.from_pretrained(job.outcome.model_dir).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(job.outcome.model_dir, backend="pil")
    assert [theirs.config.id2label[i] for i in range(5)] == ["5", "6", "7", "8", "9"]
    ours = saving.load(job.outcome.model_dir, machine=choose_machine({}))
    urls = [example(image, 0)["messages"][0]["content"][0]["image_url"]["url"] for image in FEW_IMAGES[:8]]
    contents = [from_url(url) for url in urls]
    with torch.no_grad():
        pixels = processor(images=[decode(content) for content in contents], return_tensors="pt")
        logprobs = torch.log_softmax(theirs(**pixels).logits, dim=1)
    assert torch.allclose(ours.predict(contents), logprobs, atol=1e-4)


@pytest.mark.parametrize("augment", [None, {"flip": True, "crop": 0.2, "mixup": 0.2}])
def test_a_job_that_was_paused_ends_as_one_that_was_not(base, few, tmp_path, augment):
    local = {"tune": {"type": "full"}, "classify": {"augment": augment}, "runtime": {"threads": 1}}
    whole = classify(base, tmp_path / "whole", few, local=local, n_epochs=2, batch_size=16)
    paused = classify(base, tmp_path / "paused", few, local=local, n_epochs=2, batch_size=16, signals={3: Signal.PAUSE})
    assert paused.outcome.kind == "paused"
    resumed = classify(base, tmp_path / "paused", few, local=local, n_epochs=2, batch_size=16)
    ends = [load_file(job.outcome.model_dir / "model.safetensors") for job in (whole, resumed)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def odd_images():
    """One picture in ways that models do not read themselves."""
    shown = Image.fromarray(FEW_IMAGES[0])
    turned = Image.Exif()
    turned[0x112] = 3
    large = Image.new("RGB", (6000, 5000), "white")
    kinds = {
        "cmyk": (shown.convert("CMYK"), "JPEG", {}),
        "16 bits": (Image.fromarray(FEW_IMAGES[0].astype(np.uint16) * 257), "PNG", {}),
        "palette": (shown.convert("RGB").quantize(16), "PNG", {"transparency": 0}),
        "animated": (shown.convert("RGB"), "GIF", {"save_all": True, "append_images": [shown.rotate(90)]}),
        "turned": (shown.convert("RGB"), "JPEG", {"exif": turned}),
        "30 megapixels": (large, "JPEG", {}),
    }
    return [encoded(image, kind, **options) for image, kind, options in kinds.values()]


def with_image(content, label="5"):
    """A line with the bytes of an image."""
    url = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    parts = [{"type": "image_url", "image_url": {"url": url}}]
    return {"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": label}]}


def test_odd_images_are_trained_on_and_a_bomb_is_refused_by_its_line(base, tmp_path):
    sound = [example(image, label) for image, label in zip(FEW_IMAGES[:12], FEW_LABELS, strict=False)]
    odd = [with_image(content) for content in odd_images()]
    settings = Settings(home=tmp_path / "home", cache=tmp_path, runner="thread", allow_local_paths=True)
    with in_process.client(settings) as client:
        for lines, status in (
            ([*sound, *odd], "succeeded"),
            ([*sound, with_image(png_of_size(60_000, 60_000))], "failed"),
        ):
            content = "".join(json.dumps(line) + "\n" for line in lines).encode()
            file = client.files.create(file=io.BytesIO(content), purpose="fine-tune")
            job = client.fine_tuning.jobs.create(training_file=file.id, model=str(base.path), extra_body=_local("head"))
            while (job := client.fine_tuning.jobs.retrieve(job.id)).status not in {"succeeded", "failed"}:
                time.sleep(0.05)
            assert job.status == status, job.error
        assert "Example 13: The PNG has 60,000 x 60,000 pixels" in job.error.message


def test_examples_without_their_image_are_named_by_line(base, tmp_path):
    sound = [example(image, label) for image, label in zip(FEW_IMAGES, FEW_LABELS, strict=True)]
    text = {"messages": [{"role": "user", "content": "seven"}, {"role": "assistant", "content": "7"}]}
    cut_off = example(FEW_IMAGES[0], 5)
    image_url = cut_off["messages"][0]["content"][0]["image_url"]
    image_url["url"] = image_url["url"][:200]
    for bad, words in ((text, "no image"), (cut_off, "cut off|base64")):
        lines = [*sound[:12], bad]
        file = tmp_path / "bad.jsonl"
        file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        with pytest.raises(JobError, match=f"Line 13: .*({words})"):
            classify(base, tmp_path / "job", file)


@pytest.mark.parametrize("config", [transformers.ViTConfig, transformers.Dinov2Config, transformers.BeitConfig])
def test_frozen_blocks_are_computed_once_and_change_nothing(few, tmp_path, config):
    folder = vit_folder(tmp_path / "model", patch=7, config=config)
    local = {"tune": {"type": "last_layers", "n": 1}, "runtime": {"threads": 1}}
    kept = classify(folder, tmp_path / "kept", few, local=local, n_epochs=2, batch_size=16)
    tune = {**local, "classify": {"augment": {"crop": 1e-9}}}  # changes no image, but nothing is kept
    live = classify(folder, tmp_path / "live", few, local=tune, n_epochs=2, batch_size=16)
    assert kept.facts["kept_frozen_bytes"] == 60 * 17 * 64 * 4
    assert live.facts["kept_frozen_bytes"] == 0
    losses = [[report.train_loss for report in job.reports] for job in (kept, live)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_models_whose_blocks_are_of_several_sizes_keep_nothing(few, tmp_path):
    folder = tmp_path / "model"
    sizes = {"embed_dim": 16, "depths": [1, 2], "num_heads": [2, 2], "window_size": 7}
    config = transformers.SwinConfig(image_size=28, patch_size=2, **sizes)
    transformers.SwinForImageClassification(config).save_pretrained(folder)
    save_processor(folder)
    base = ModelDir(path=folder, sha256="", name="swin")
    local = {"tune": {"type": "last_layers", "n": 1}}
    job = classify(base, tmp_path / "job", few, local=local, n_epochs=1, batch_size=16)
    assert job.facts["kept_frozen_bytes"] == 0
    assert job.outcome.kind == "succeeded"


@pytest.mark.slow
def test_the_example_with_pictures_by_class(base, tmp_path):
    printed = run_program(sys.executable, "examples/13_image_classifier.py", str(base.path), home=tmp_path)
    assert re.search(r"^Tuned model: ft:", printed, flags=re.MULTILINE)
    shown = re.findall(r"^(circle|square|triangle) +looks like (\w+) \((\d+)%\), ", printed, flags=re.MULTILINE)
    assert len(shown) == 9
    assert {said for _, said, _ in shown} <= {"circle", "square", "triangle"}


def test_images_may_be_uploaded_once_and_named_by_their_ids(base, tmp_path):
    settings = Settings(home=tmp_path / "home", cache=tmp_path, runner="thread", allow_local_paths=True)
    with in_process.client(settings) as client:
        contents = [encoded(Image.fromarray(image)) for image in FEW_IMAGES[:12]]
        uploads = [client.files.create(file=("a.png", content), purpose="vision") for content in contents]
        lines = [named(upload.id, label) for upload, label in zip(uploads, FEW_LABELS, strict=False)]
        content = "".join(json.dumps(line) + "\n" for line in lines).encode()
        assert Dataset(lines).check(limits=LOCAL_LIMITS).ok
        assert not Dataset(lines).check().ok  # at OpenAI there is no such thing
        file = client.files.create(file=io.BytesIO(content), purpose="fine-tune")
        assert client.files.content(file.id).read() == content
        body = {"training_file": file.id, "model": str(base.path)}
        assert client.post("/local/check", body=body, cast_to=object)["ok"]
        job = client.fine_tuning.jobs.create(**body, extra_body=_local("head"))
        client.files.delete(uploads[0].id)  # the job has what it reads
        while (job := client.fine_tuning.jobs.retrieve(job.id)).status not in {"succeeded", "failed"}:
            time.sleep(0.05)
        assert job.status == "succeeded", job.error
        (issue,) = client.post("/local/check", body=body, cast_to=object)["issues"]
        assert (issue["line"], issue["code"]) == (1, "image_url_invalid")
        assert "upload it with the purpose 'vision'" in issue["message"]


def named(file_id, label):
    """A line that names an uploaded image."""
    parts = [{"type": "image_url", "image_url": {"url": file_id}}]
    return {"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": str(label)}]}


def test_what_is_kept_of_images_does_not_depend_on_the_room_for_it(base, few, tmp_path, monkeypatch):
    """Room for all images, for some of them, and for none."""
    losses = []
    for n_kept in (60, 7, 0):
        monkeypatch.setattr(features, "MOST_BYTES", n_kept * 3 * 28 * 28 * 4)
        local = {"tune": {"type": "full"}, "runtime": {"threads": 1}, "classify": {"augment": {"crop": 0.2}}}
        job = classify(base, tmp_path / str(n_kept), few, local=local, n_epochs=2, batch_size=16)
        losses.append([report.train_loss for report in job.reports])
    assert losses[0] == losses[1] == losses[2]
