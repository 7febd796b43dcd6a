"""A text classifier through the official client, without a special call: files, job, events, checkpoints, chat."""

import base64
import json
import math
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx2
import openai
import pytest

from local_backend import in_process
from local_backend.settings import Settings
from tests.contract.conftest import wait
from tests.contract.places import judge, official
from tests.training.tiny import tiny_folder
from tests.training.tiny_classifier import example, sentences, write_encoder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return write_encoder(tmp_path_factory.mktemp("encoder"), pooling="mean")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def client(home):
    settings = Settings(home=home, cache=home / "cache", engine="torch", runner="thread", allow_local_paths=True)
    http = httpx2.Client(transport=in_process.transport(settings), event_hooks={"response": [judge]})
    with official(openai.OpenAI, http, in_process.BASE_URL) as found:
        yield found


@pytest.fixture(scope="module")
def job(client, encoder):
    """A finished job."""
    files = [upload(client, sentences(40)), upload(client, sentences(30, seed=1))]
    numbers = {"n_epochs": 10, "batch_size": 8, "learning_rate_multiplier": 5.0}
    created = client.fine_tuning.jobs.create(
        model=str(encoder),
        training_file=files[0],
        validation_file=files[1],
        hyperparameters=numbers,
        suffix="things",
        seed=1,
    )
    return wait(client, created.id)


def upload(client, examples):
    lines = "".join(json.dumps(one) + "\n" for one in examples).encode()
    return client.files.create(file=("data.jsonl", lines), purpose="fine-tune").id


def ask(client, model, text, **options):
    return client.chat.completions.create(model=model, messages=[{"role": "user", "content": text}], **options)


def test_the_job_is_one_like_any_other(client, job):
    assert job.status == "succeeded"
    events = [event.message for event in client.fine_tuning.jobs.list_events(job.id, limit=100)]
    assert "Fine-tuning job started" in events
    assert any(message.startswith("Step 50/50: training loss=") for message in events)
    checkpoints = list(client.fine_tuning.jobs.checkpoints.list(job.id))
    assert checkpoints[0].metrics.full_valid_mean_token_accuracy > 0.9
    assert base64.b64decode(client.files.content(job.result_files[0]).content).startswith(b"step,train_loss,train_")


def test_metrics_tell_accuracy_f1_calibration_and_confusion(client, job):
    steps = [event for event in client.fine_tuning.jobs.list_events(job.id, limit=100) if event.type == "metrics"]
    last = max(steps, key=lambda event: event.data["step"]).data
    assert last["full_valid_accuracy"] == last["full_valid_mean_token_accuracy"] > 0.9
    assert 0.9 < last["full_valid_macro_f1"] <= 1
    assert 0 <= last["full_valid_ece"] <= 1
    details = client.get(f"/local/jobs/{job.id}", cast_to=object)
    said = details["facts"]["classification"]
    assert [row["label"] for row in said["per_class"]] == ["animal", "fruit", "tool"]
    assert sum(map(sum, said["confusion"])) == 30


def test_the_answer_is_the_label_and_logprobs_are_over_labels(client, job):
    answer = ask(client, job.fine_tuned_model, "i see the very old hammer saw", logprobs=True, top_logprobs=3)
    (choice,) = answer.choices
    assert (choice.message.content, choice.finish_reason) == ("tool", "stop")
    (said,) = choice.logprobs.content
    assert said.token == "tool"  # noqa: S105 - a word of an answer
    assert bytes(said.bytes) == b"tool"
    assert {top.token for top in said.top_logprobs} == {"animal", "fruit", "tool"}
    assert sum(math.exp(top.logprob) for top in said.top_logprobs) == pytest.approx(1.0, abs=1e-5)
    assert answer.usage.completion_tokens == 1
    assert answer.usage.prompt_tokens == 9


def test_it_streams_and_gives_several_choices(client, job):
    chunks = ask(client, job.fine_tuned_model, "my new otter", stream=True, n=2)
    texts = {0: "", 1: ""}
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == {0: "animal", 1: "animal"}


def test_many_at_once_are_answered_as_each_alone(client, job):
    texts = [one["messages"][0]["content"] for one in sentences(24, seed=9)]
    alone = [ask(client, job.fine_tuned_model, text).choices[0].message.content for text in texts]
    gate = threading.Barrier(8)

    def at_once(text):
        if texts.index(text) < 8:
            gate.wait(timeout=30)
        return ask(client, job.fine_tuned_model, text).choices[0].message.content

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(at_once, texts)) == alone


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}], "this model reads text only"),
        ([{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}], "not 'input_audio'"),
        (" ", "nothing to classify"),
        ("old " * 60, "Nothing is cut in silence"),
    ],
    ids=["image", "audio", "blank", "long"],
)
def test_what_it_does_not_read_is_refused_with_words(client, job, content, said):
    with pytest.raises(openai.BadRequestError, match=said) as caught:
        ask(client, job.fine_tuned_model, content)
    assert caught.value.param == "messages"


def test_what_is_too_long_has_the_code_that_clients_know(client, job):
    """An evaluation counts such a question as one that the model can't answer, and goes on with the next."""
    with pytest.raises(openai.BadRequestError, match="It has 62 tokens, and the model reads 40") as caught:
        ask(client, job.fine_tuned_model, "old " * 60)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "messages")


def test_a_name_says_whether_a_classifier_answers(client, job, encoder):
    found = [client.get(f"/local/models/{name}", cast_to=object) for name in (job.fine_tuned_model, encoder)]
    assert [each["is_classifier"] for each in found] == [True, False]


def test_a_classifier_that_is_written_anew_gives_its_new_answers(client, job, home, tmp_path):
    written = next(note.parent for note in home.rglob("classifier.json") if job.id in note.parts)
    folder = shutil.copytree(written, tmp_path / "served")
    assert ask(client, str(folder), "see my old hammer").choices[0].message.content == "tool"
    note = json.loads((folder / "classifier.json").read_text())
    others = [label.upper() for label in note["labels"]]
    (folder / "classifier.json").write_text(json.dumps({**note, "labels": others}))
    assert ask(client, str(folder), "see my old hammer").choices[0].message.content == "TOOL"


def test_an_encoder_that_is_not_tuned_says_so(client, encoder):
    with pytest.raises(openai.BadRequestError, match="no labels to answer with until it is tuned"):
        ask(client, str(encoder), "the cat")


def test_a_file_of_one_label_fails_with_the_reason(client, encoder):
    file = upload(client, sentences(12, kinds=("fruit",)))
    job = wait(client, client.fine_tuning.jobs.create(model=str(encoder), training_file=file).id)
    assert (job.status, job.error.code, job.error.param) == ("failed", "invalid_training_file", "training_file")
    assert "same label" in job.error.message


def test_preferences_do_not_make_a_classifier(client, encoder):
    file = upload(client, sentences(12))
    with pytest.raises(openai.BadRequestError, match="trained on labels"):
        client.fine_tuning.jobs.create(
            model=str(encoder),
            training_file=file,
            method={"type": "dpo"},
            extra_body={"local": {"task": "classify"}},
        )


def test_a_plan_says_what_it_takes_and_what_becomes_of_the_model(client, encoder):
    body = {"model": str(encoder), "training_file": upload(client, sentences(40)), "local": {"tune": {"type": "head"}}}
    plan = client.post("/local/plan", body=body, cast_to=object)
    assert plan["n_examples"] == 40
    assert plan["loss_tokens_per_epoch"] == 40
    assert plan["time_s"] > 0
    assert plan["memory_bytes"] > 100 << 20
    assert plan["notes"][0] == "A classifier of texts: 3 labels, one label each, pooled by mean."
    assert any("computed once for all epochs" in note for note in plan["notes"])


def test_a_plan_refuses_labels_that_were_never_learned_with_their_line(client, encoder):
    files = [upload(client, sentences(12, kinds=("fruit", "tool"))), upload(client, sentences(12))]
    body = {"model": str(encoder), "training_file": files[0], "validation_file": files[1]}
    with pytest.raises(openai.BadRequestError, match=r"Line 3: The label 'animal' is not in the training file"):
        client.post("/local/plan", body=body, cast_to=object)


def test_a_check_finds_rare_labels_and_a_language_that_the_model_does_not_know(client, encoder):
    foreign = [example("うちの猫はどこですか", "animal") for _ in range(6)]
    lines = [*sentences(12, kinds=("fruit", "tool")), *foreign, example("my new thing", "gadget")]
    report = client.post(
        "/local/check", body={"model": str(encoder), "training_file": upload(client, lines)}, cast_to=object
    )
    assert report["ok"]
    found = {issue["code"]: issue for issue in report["issues"]}
    assert found["label_rare"]["line"] == 19
    assert "'gadget'" in found["label_rare"]["message"]
    assert "does not know" in found["language_unfit"]["message"]


def test_a_check_counts_by_the_encoders_tokenizer_and_finds_files_of_one_label(client, encoder):
    file = upload(client, sentences(12, kinds=("fruit",)))
    report = client.post("/local/check", body={"model": str(encoder), "training_file": file}, cast_to=object)
    assert not report["ok"]
    assert [issue["code"] for issue in report["issues"] if issue["severity"] == "error"] == ["labels_unfit"]
    shown = client.post(
        "/local/render", body={"model": str(encoder), "example": example("my old saw", "tool")}, cast_to=object
    )
    assert [token["text"] for token in shown["tokens"]] == ["[CLS]", "my", "old", "saw", "[SEP]"]


def test_what_only_classifiers_can_do_is_refused_for_a_model_that_chats(client, tmp_path):
    base = str(tiny_folder(tmp_path / "chat").path)
    body = {"model": base, "training_file": upload(client, sentences(12))}
    for asked in ({"valid_share": 0.3}, {"balance": "weights"}, {"augment": {"flip": True}}):
        (name,) = asked
        with pytest.raises(openai.BadRequestError, match=rf"`classify.{name}` is for classifiers") as caught:
            client.post("/local/plan", body={**body, "local": {"classify": asked}}, cast_to=object)
        assert (caught.value.param, caught.value.code) == (f"local.classify.{name}", "invalid_value")
    local = {"classify": {"valid_share": 0.3}}
    job = wait(client, client.fine_tuning.jobs.create(**body, extra_body={"local": local}).id)
    assert (job.status, job.error.param) == ("failed", "local.classify.valid_share")
    assert client.post("/local/plan", body={**body, "local": {"classify": {"valid_share": 0.0}}}, cast_to=object)


def test_samples_of_answers_are_refused_for_a_classifier(client, encoder):
    body = {"model": str(encoder), "training_file": upload(client, sentences(12))}
    with pytest.raises(openai.BadRequestError, match="writes no answers that could be sampled") as caught:
        client.post("/local/plan", body={**body, "local": {"evaluation": {"samples": 3}}}, cast_to=object)
    assert caught.value.param == "local.evaluation.samples"
