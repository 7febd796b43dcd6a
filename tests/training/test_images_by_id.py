"""An image that was uploaded once is asked about by the id of its file, as it is trained on, scored and evaluated."""

import base64
import io

import openai
import pytest

from ftclient import hosts
from ftclient.evaluate.evaluation import evaluate
from local_backend import in_process
from local_backend.settings import Settings
from tests.contract.conftest import wait
from tests.training.digits import chosen, example, vit_folder
from tests.training.tiny import write_jsonl
from tests.training.tiny_vision import image_part, picture, seen, text_part, vision_folder

DARK, LIGHT = picture(10), picture(200, size=(30, 70))


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    settings = Settings(home=home, cache=home / "cache", runner="thread", allow_local_paths=True)
    with in_process.client(settings) as official:
        yield official


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """A model that reads images and answers in words."""
    return str(vision_folder("qwen2_vl", tmp_path_factory.mktemp("qwen")).path)


def uploaded(client, content, *, purpose="vision"):
    return {"type": "image_url", "image_url": {"url": client.files.create(file=("a.png", content), purpose=purpose).id}}


def ask(client, model, *parts, **options):
    return client.chat.completions.create(model=model, messages=[{"role": "user", "content": list(parts)}], **options)


@pytest.mark.filterwarnings("ignore:.*generation flags.*")
@pytest.mark.parametrize("purpose", ["vision", "user_data"])
def test_it_is_answered_scored_and_shown_as_the_image_itself(client, reader, purpose):
    ids = [uploaded(client, content, purpose=purpose) for content in (DARK, LIGHT)]
    themselves = [image_part(content) for content in (DARK, LIGHT)]
    answers, scores, tokens = [], [], []
    for dark, light in (ids, themselves):
        options = {"temperature": 0, "max_tokens": 6, "logprobs": True}
        found = ask(client, reader, light, text_part("And?"), dark, **options)
        answers.append((found.choices[0].message.content, found.choices[0].logprobs, found.usage))
        line = seen("yes", dark, text_part("Light?"), light)
        body = {"model": reader, "examples": [line]}
        scores.append(client.post("/local/score", body=body, cast_to=object)["scores"])
        tokens.append(client.post("/local/render", body={"model": reader, "example": line}, cast_to=object))
    for by_id, by_url in (answers, scores, tokens):
        assert by_id == by_url


def test_files_that_are_no_images_for_it_are_refused_by_name(client, reader):
    other = uploaded(client, b"secret", purpose="batch")
    unknown = {"type": "image_url", "image_url": {"url": "file-doesnotexist"}}
    line = seen("yes", other)
    calls = (
        lambda: ask(client, reader, other),
        lambda: ask(client, reader, unknown),
        lambda: client.post("/local/score", body={"model": reader, "examples": [line]}, cast_to=object),
        lambda: client.post("/local/render", body={"model": reader, "example": line}, cast_to=object),
    )
    for call in calls:
        with pytest.raises(openai.BadRequestError, match="There is no image file file-") as caught:
            call()
        assert caught.value.code == "image_url_invalid"


def test_a_classifier_is_asked_and_evaluated_on_the_file_that_it_was_trained_on(client, tmp_path):
    base = vit_folder(tmp_path / "vit", patch=7, n_blocks=1)
    images, labels = chosen(range(5, 10), n=20)
    by_url = [example(image, label) for image, label in zip(images, labels, strict=True)]
    by_id = [seen(str(label), by_name(client, line)) for line, label in zip(by_url, labels, strict=True)]
    content = write_jsonl(tmp_path / "t.jsonl", by_id).read_bytes()
    file = client.files.create(file=io.BytesIO(content), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model=str(base.path),
        training_file=file.id,
        hyperparameters={"n_epochs": 1},
        extra_body={"local": {"tune": {"type": "head"}}},
    )
    model = wait(client, job.id).fine_tuned_model
    options = {"logprobs": True, "top_logprobs": 3}
    said = [ask(client, model, *line["messages"][0]["content"], **options).choices[0] for line in (by_url[0], by_id[0])]
    assert said[0] == said[1]
    found = evaluate(client, hosts.LOCAL, by_id, models=[model], home=tmp_path / "evaluations")
    assert set(found.answers[model]) <= {str(label) for label in labels}
    assert len(found.answers[model]) == len(by_id)


def by_name(client, line):
    """The image of a line, uploaded."""
    (part,) = line["messages"][0]["content"]
    return uploaded(client, base64.b64decode(part["image_url"]["url"].partition(",")[2]))
