"""Vision-language models from the upload to the answer, through the official client alone."""

import io
import time

import openai
import pytest
import torch
import transformers

from local_backend import in_process
from local_backend.engine.device import choose_machine
from local_backend.engine.template import Template
from local_backend.engine.vision.network import Seen
from local_backend.settings import Settings
from tests.training.tiny import write_jsonl
from tests.training.tiny_vision import image_part, picture, seen, text_part, vision_folder

DARK, LIGHT = picture(10), picture(200, size=(30, 70))


@pytest.fixture(scope="module", params=["idefics3", "qwen2_vl"])
def base(request, tmp_path_factory):
    return vision_folder(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    settings = Settings(home=home, cache=home / "cache", runner="thread", allow_local_paths=True)
    with in_process.client(settings) as official:
        yield official


def ask(client, model, *parts, **options):
    return client.chat.completions.create(model=model, messages=[{"role": "user", "content": list(parts)}], **options)


def by_transformers(base, *parts, n_tokens):
    """What transformers' own generate says to the same prompt."""
    model = transformers.AutoModelForImageTextToText.from_pretrained(base.path, dtype=torch.float32)
    template = Template.of(base.path)
    prompt = template.asked([{"role": "user", "content": list(parts)}])
    more = Seen(model, template).inputs(prompt.ids, prompt.images, machine=choose_machine({}))
    ids = torch.tensor([prompt.ids])
    found = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=n_tokens, do_sample=False, pad_token_id=0, **more
    )
    return template.tokenizer.decode(found[0, len(prompt.ids) :], skip_special_tokens=True)


@pytest.mark.filterwarnings("ignore:.*generation flags.*")
def test_answers_about_images_are_those_of_transformers_also_when_they_take_turns(base, client):
    asked = [[image_part(DARK), text_part("What?")], [text_part("And?"), image_part(LIGHT)], [text_part("No image")]]
    options = {"temperature": 0, "max_tokens": 8}
    streams = [ask(client, str(base.path), *parts, stream=True, **options) for parts in asked]
    texts = ["", "", ""]
    for pieces in zip(*streams, strict=False):  # all three are written at the same time
        for i, piece in enumerate(pieces):
            texts[i] += (piece.choices[0].delta.content or "") if piece.choices else ""
    for i, stream in enumerate(streams):
        texts[i] += "".join(piece.choices[0].delta.content or "" for piece in stream)
    assert texts == [by_transformers(base, *parts, n_tokens=8) for parts in asked]


def test_a_job_from_upload_to_an_answer_that_depends_on_the_image(base, client, tmp_path):
    shades = [picture(shade, size=(32, 32)) for shade in (5, 15, 25, 190, 200, 210)] * 2
    answers = ["no", "no", "no", "yes", "yes", "yes"] * 2
    pairs = zip(answers, shades, strict=True)
    lines = [seen(answer, image_part(shade), text_part("Light?")) for answer, shade in pairs]
    content = write_jsonl(tmp_path / "t.jsonl", lines).read_bytes()
    file = client.files.create(file=io.BytesIO(content), purpose="fine-tune")
    body = {"training_file": file.id, "model": str(base.path)}
    report = client.post("/local/check", body=body, cast_to=object)
    assert report["ok"]
    assert report["stats"]["n_images"] == 12
    plan = client.post("/local/plan", body=body, cast_to=object)
    assert any("look at their images is not counted" in note for note in plan["notes"])
    with pytest.raises(openai.BadRequestError, match="tuned by LoRA here"):
        client.post("/local/plan", body={**body, "local": {"tune": {"type": "full"}}}, cast_to=object)
    job = client.fine_tuning.jobs.create(
        **body,
        seed=1,
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 12, "batch_size": 6}}},
        extra_body={"local": {"learning_rate": 0.01, "runtime": {"threads": 1}}},
    )
    while (job := client.fine_tuning.jobs.retrieve(job.id)).status not in {"succeeded", "failed"}:
        time.sleep(0.1)
    assert job.status == "succeeded", job.error
    assert job.trained_tokens == 12 * plan["tokens_per_epoch"]
    answers = [
        ask(client, job.fine_tuned_model, image_part(picture(shade, size=(32, 32))), text_part("Light?"), temperature=0)
        for shade in (12, 205)
    ]
    # Idefics' template puts a space before each answer, and the model learns it.
    assert [answer.choices[0].message.content.strip() for answer in answers] == ["no", "yes"]
    assert answers[0].usage.prompt_tokens > len("Light?") + 4  # the image's own tokens count


def test_images_that_cannot_be_read_are_refused_with_the_reason(base, client):
    with pytest.raises(openai.BadRequestError, match="cut off"):
        ask(client, str(base.path), image_part(DARK[:200]))
    with pytest.raises(openai.BadRequestError, match="nothing is fetched"):
        ask(client, str(base.path), {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}})


def test_tools_that_its_template_would_drop_are_refused(base, client):
    tool = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
    with pytest.raises(openai.BadRequestError, match="no place for tools") as caught:
        ask(client, str(base.path), image_part(DARK), text_part("What?"), tools=[tool])
    assert (caught.value.code, caught.value.param) == ("model_not_supported", "tools")


def test_a_check_names_all_images_that_cannot_be_read(base, client, tmp_path):
    sound = [seen("no", image_part(picture(shade))) for shade in range(10)]
    address = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    lines = [*sound, seen("no", image_part(DARK[:200])), seen("no", address)]
    content = write_jsonl(tmp_path / "t.jsonl", lines).read_bytes()
    file = client.files.create(file=io.BytesIO(content), purpose="fine-tune")
    report = client.post("/local/check", body={"training_file": file.id, "model": str(base.path)}, cast_to=object)
    found = [(issue["line"], issue["code"]) for issue in report["issues"]]
    assert found == [(11, "image_format"), (12, "image_url_invalid")]


def scored_by_transformers(base, example):
    """Log-probability and number of tokens of the answer, by transformers' own forward pass over all of it."""
    model = transformers.AutoModelForImageTextToText.from_pretrained(base.path, dtype=torch.float32).eval()
    template = Template.of(base.path)
    (whole,) = template.render(example)
    more = Seen(model, template).inputs(whole.ids, whole.images, machine=choose_machine({}))
    with torch.no_grad():
        logprobs_TV = model(input_ids=torch.tensor([whole.ids]), use_cache=False, **more).logits[0].log_softmax(-1)
    at = [place for place, weight in enumerate(whole.weights) if weight > 0]
    return {"logprob": sum(float(logprobs_TV[place - 1, whole.ids[place]]) for place in at), "n_tokens": len(at)}


def test_how_likely_an_answer_is_depends_on_the_images(base, client):
    shown = [[image_part(DARK)], [image_part(LIGHT)], [image_part(LIGHT), image_part(DARK)], []]
    examples = [seen("dark", *images, text_part("What?")) for images in shown]
    body = {"model": str(base.path), "examples": examples}
    found = client.post("/local/score", body=body, cast_to=object)["scores"]
    assert len({one["logprob"] for one in found}) == 4
    for one, example in zip(found, examples, strict=True):
        assert one == pytest.approx(scored_by_transformers(base, example), rel=1e-4)
