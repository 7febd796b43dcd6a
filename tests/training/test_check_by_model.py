"""What a model's template has no words for is an issue of its line; the check goes on with the next."""

import pytest

from local_backend import in_process
from local_backend.settings import Settings
from tests.training.tiny import write_jsonl
from tests.training.tiny_classifier import example, sentences, write_encoder
from tests.training.tiny_vision import image_part, picture, seen, text_part, vision_folder


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    settings = Settings(home=home, cache=home / "cache", runner="thread", allow_local_paths=True)
    with in_process.client(settings) as official:
        yield official


def checked(client, model, lines, tmp_path):
    content = write_jsonl(tmp_path / "t.jsonl", lines).read_bytes()
    file = client.files.create(file=("t.jsonl", content), purpose="fine-tune")
    return client.post("/local/check", body={"training_file": file.id, "model": str(model)}, cast_to=object)


def test_texts_that_look_like_images_are_named_by_their_lines(client, tmp_path):
    base = vision_folder("idefics3", tmp_path / "base")
    lines = [seen("no", image_part(picture(shade)), text_part("Light?")) for shade in range(12)]
    for place in (4, 9):
        lines[place] = seen("no", text_part("an <image> tag"), image_part(picture(3)))
    report = checked(client, base.path, lines, tmp_path)
    assert not report["ok"]
    assert [(issue["line"], issue["code"], issue["path"]) for issue in report["issues"]] == [
        (5, "special_token", "/messages"),
        (10, "special_token", "/messages"),
    ]
    assert "<image>, which stands for an image" in report["issues"][0]["message"]
    assert report["issues"][0]["hint"] == "Take the control token out of the text."
    assert report["n_examples"] == 12


def test_a_classifier_names_all_lines_that_it_has_nothing_to_read_of(client, tmp_path):
    model = write_encoder(tmp_path / "encoder", pooling="mean")
    lines = [*sentences(12), example(" ", "tool"), example("my saw", "tool"), example("\n", "tool"), {}]
    report = checked(client, model, lines, tmp_path)
    errors = [issue for issue in report["issues"] if issue["severity"] == "error"]
    found = [(issue["line"], issue["code"]) for issue in errors]
    assert found == [(13, "example_unfit"), (15, "example_unfit"), (16, "missing_key")]
    assert "nothing to classify" in errors[0]["message"]
