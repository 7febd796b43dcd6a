"""Classifiers: the maths is that of transformers' own models, jobs learn, resume exactly, and what they leave loads."""

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from local_backend.engine import pace
from local_backend.engine.classify import loop, packed, saving
from local_backend.engine.classify.body import load_body
from local_backend.engine.classify.data import read_data
from local_backend.engine.classify.features import KeptFeatures, KeptStates, Live
from local_backend.engine.classify.labels import options_of
from local_backend.engine.classify.routing import training_kind
from local_backend.engine.classify.run import prepare
from local_backend.engine.exports.export import export
from local_backend.settings import Settings
from local_backend.task import JobError, ModelRef, Signal, UserError
from tests.training.chatty import write_tiny
from tests.training.tiny import Recording
from tests.training.tiny_classifier import CPU, base_of, sentences, task_of, write_encoder, write_examples

WAYS = {
    "head": {"type": "head"},
    "last": {"type": "last_layers", "n": 1},
    "lora": {"type": "lora"},
    "full": {"type": "full"},
}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return write_encoder(tmp_path_factory.mktemp("encoder"), pooling="mean")


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    return write_examples(tmp_path_factory.mktemp("data") / "train.jsonl", sentences(48))


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    return write_examples(tmp_path_factory.mktemp("data") / "held.jsonl", sentences(30, seed=1))


def job(work, training, base, **options):
    """Run a job to its end; returns outcome and recording."""
    work.mkdir(exist_ok=True)
    task = task_of(work, training, base, **options)
    recording = options.pop("recording", None) or Recording()
    kind = training_kind(task.model, base, task="classify")
    return loop.train(task, base=base_of(base), kind=kind, recorder=recording), recording


def run_of(work, training, base, **options):
    task = task_of(work, training, base, **options)
    kind = training_kind(task.model, base, task="classify")
    return prepare(task, base=base_of(base), kind=kind, between=lambda: None)


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_texts_side_by_side_have_the_states_and_gradients_that_each_has_alone(tmp_path, kind):
    model = transformers.AutoModel.from_pretrained(write_encoder(tmp_path / kind, kind), dtype=torch.float64).eval()
    texts = [[(3 * i + n) % 30 for i in range(n)] for n in (1, 4, 9, 9, 17, 2)]
    texts = [[max(1, token) for token in text] for text in texts]  # RoBERTa counts positions by what is no padding
    layout = packed.lay_out(texts)
    ours = packed.run_blocks(list(packed.blocks_of(model)), packed.embed(model, layout), layout)
    pull = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (ours * pull).sum().backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    theirs = torch.cat([model(input_ids=torch.tensor([text])).last_hidden_state[0] for text in texts])
    (theirs * pull).sum().backward()
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, model.get_parameter(name).grad, rtol=1e-8, atol=1e-8, msg=name)


@pytest.mark.parametrize("way", list(WAYS))
def test_each_way_of_tuning_learns_and_its_model_says_what_the_run_said(tmp_path, encoder, training, held, way):
    local = {"tune": WAYS[way], "classify": {"warm_start": False}}
    outcome, recording = job(tmp_path / "job", training, encoder, validation=held, local=local, n_epochs=12)
    last = recording.reports[-1]
    assert outcome.kind == "succeeded"
    assert last.full_valid_mean_token_accuracy > 0.9
    assert last.full_valid_loss < recording.reports[5].full_valid_loss
    classifier = saving.load(outcome.model_dir, machine=CPU)
    right = 0
    for one in map(json.loads, held.read_text().splitlines()):
        question, answer = (message["content"] for message in one["messages"])
        ids = classifier.body.reader.read(question, (), line=1, param="training_file")
        right += classifier.labels.names[int(classifier.predict([ids])[0].argmax())] == answer
    assert right / 30 == pytest.approx(last.full_valid_mean_token_accuracy)
    said = recording.facts["classification"]
    assert said["accuracy"] == pytest.approx(last.full_valid_mean_token_accuracy)
    assert sum(sum(row) for row in said["confusion"]) == 30


@pytest.mark.parametrize(("way", "kept"), [("head", KeptFeatures), ("last", KeptStates)])
def test_computing_frozen_parts_once_changes_nothing(tmp_path, encoder, training, way, kept):
    weights = {}
    for name in ("kept", "live"):
        run = run_of(tmp_path, training, encoder, local={"tune": WAYS[way]})
        assert isinstance(run.features, kept)
        if name == "live":
            object.__setattr__(run, "features", Live(run.classifier))
        run.begin_epoch(0)
        for step in range(3):
            rows = run.data.train[8 * step : 8 * step + 8]
            loop._gradients(run, rows, epoch=0, places=range(8), between=lambda: None)
            run.optimizer.step()
        weights[name] = {key: parameter.detach().clone() for key, parameter in run.parameters()}
    for key, value in weights["kept"].items():
        torch.testing.assert_close(value, weights["live"][key], rtol=1e-4, atol=1e-5, msg=key)


def test_gradients_do_not_depend_on_micro_batches_nor_on_texts_beside(tmp_path, encoder, training):
    gradients = []
    for limit in (None, 8):
        local = {"tune": {"type": "full"}, "runtime": {"threads": 1, "micro_batch_tokens": limit}}
        run = run_of(tmp_path, training, encoder, local=local)
        loop._gradients(run, run.data.train[:16], epoch=0, places=range(16), between=lambda: None)
        gradients.append({name: p.grad.clone() for name, p in run.parameters() if p.grad is not None})
    for name, whole in gradients[0].items():
        scale = max(1e-6, float(whole.abs().max()))
        assert float((whole - gradients[1][name]).abs().max()) <= 1e-5 * scale + 1e-8, name


@pytest.mark.parametrize("way", ["head", "lora", "full"])
def test_a_paused_run_goes_on_to_the_very_same_bits(tmp_path, encoder, training, held, way):
    local = {"tune": WAYS[way], "classify": {"unfreeze": "gradually" if way == "full" else "at_once"}}
    options = {"validation": held, "local": local, "n_epochs": 3}
    whole, straight = job(tmp_path / "whole", training, encoder, **options)
    halves = Recording(signals={8: Signal.PAUSE})
    task = task_of(tmp_path / "halves", training, encoder, **options)
    (tmp_path / "halves").mkdir()
    kind = training_kind(task.model, encoder, task="classify")
    paused = loop.train(task, base=base_of(encoder), kind=kind, recorder=halves)
    assert paused.kind == "paused"
    assert saving.is_classifier(paused.model_dir)
    halves.signals = {}
    resumed = loop.train(task, base=base_of(encoder), kind=kind, recorder=halves)
    assert resumed.trained_tokens == whole.trained_tokens
    assert [one.train_loss for one in halves.reports] == [one.train_loss for one in straight.reports]
    for file in ("model.safetensors", "last_layer.safetensors"):
        assert (resumed.model_dir / file).read_bytes() == (whole.model_dir / file).read_bytes()


class _Dying(Recording):
    """A recorder whose process dies in a step, after it was recorded."""

    def step(self, report):
        found = super().step(report)
        if report.step == self.last_step:
            raise KeyboardInterrupt
        return found


@pytest.mark.parametrize("balance", ["none", "sampling"])
def test_a_run_that_died_goes_on_to_the_very_same_bits(tmp_path, encoder, training, held, balance, monkeypatch):
    monkeypatch.setattr(pace, "RESUME_EVERY_S", 0.02)
    options = {"validation": held, "local": {"tune": {"type": "full"}, "classify": {"balance": balance}}, "n_epochs": 3}
    whole, straight = job(tmp_path / "whole", training, encoder, **options)
    task = task_of(tmp_path / "died", training, encoder, **options)
    (tmp_path / "died").mkdir()
    kind = training_kind(task.model, encoder, task="classify")
    dying = _Dying()
    for dying.last_step in (5, 11, 14):
        with pytest.raises(KeyboardInterrupt):
            loop.train(task, base=base_of(encoder), kind=kind, recorder=dying)
    rest = Recording()
    resumed = loop.train(task, base=base_of(encoder), kind=kind, recorder=rest)
    assert resumed.trained_tokens == whole.trained_tokens
    assert rest.reports[0].step > 1, "it did not begin anew"
    losses = {one.step: one.train_loss for one in [*dying.reports, *rest.reports]}
    assert losses == {one.step: one.train_loss for one in straight.reports}
    for file in ("model.safetensors", "last_layer.safetensors"):
        assert (resumed.model_dir / file).read_bytes() == (whole.model_dir / file).read_bytes()


def test_transformers_loads_what_its_classes_can_express(tmp_path, training):
    """BERT with its pooler, and a language model that reads its last token: same logits, labels in the config."""
    bases = {"bert": write_encoder(tmp_path / "bert"), "llama": write_tiny(tmp_path / "llama", "llama")}
    for name, base in bases.items():
        outcome, _ = job(tmp_path / f"{name}-job", training, base, local={"tune": {"type": "last_layers", "n": 1}})
        classifier = saving.load(outcome.model_dir, machine=CPU)
        model = transformers.AutoModelForSequenceClassification.from_pretrained(outcome.model_dir).eval()
        assert model.config.id2label == {0: "animal", 1: "fruit", 2: "tool"}
        for text in ("the apple is old", "i see my new saw"):
            ids = classifier.body.reader.read(text, (), line=1, param="training_file")
            theirs = torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0], dim=0)
            torch.testing.assert_close(classifier.predict([ids])[0], theirs, rtol=1e-3, atol=1e-4)


def test_a_sentence_encoder_stays_one_and_its_last_layer_is_as_the_read_me_says(tmp_path, encoder, training):
    outcome, _ = job(tmp_path / "job", training, encoder, local={"tune": {"type": "full"}})
    assert "AutoModel`" in (outcome.model_dir / "README.md").read_text()
    tokenizer = transformers.AutoTokenizer.from_pretrained(outcome.model_dir)
    model = transformers.AutoModel.from_pretrained(outcome.model_dir).eval()
    tensors = load_file(outcome.model_dir / "last_layer.safetensors")
    inputs = tokenizer("the otter is on my saw", return_tensors="pt")
    features = model(**inputs).last_hidden_state[0].mean(0)
    expected = torch.log_softmax(features @ tensors["weight"].T + tensors["bias"], dim=0)
    classifier = saving.load(outcome.model_dir, machine=CPU)
    found = classifier.predict([inputs["input_ids"][0].tolist()])[0]
    torch.testing.assert_close(found, expected.detach(), rtol=1e-3, atol=1e-4)


def test_other_encoders_are_computed_by_transformers_with_padding_that_nothing_sees(tmp_path, training):
    base = write_encoder(tmp_path / "distil", "distilbert")
    kind = training_kind(ModelRef(base=str(base)), base, task="chat")
    body = load_body(base, kind, machine=CPU)
    assert not body.is_packed
    sentences_read = ("the cat", "my very old and new drill is on")
    texts = [body.reader.read(text, (), line=1, param="training_file") for text in sentences_read]
    with torch.no_grad():
        together, alone = body.features(texts), torch.cat([body.features([text]) for text in texts])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    outcome, recording = job(tmp_path / "job", training, base, local={"tune": {"type": "full"}}, n_epochs=8)
    assert outcome.kind == "succeeded"
    assert recording.reports[-1].train_mean_token_accuracy > 0.9


def test_a_pooler_that_is_not_in_the_weights_is_not_used(tmp_path):
    base = write_encoder(tmp_path / "bert")
    kind = training_kind(ModelRef(base=str(base)), base, task="chat")
    assert load_body(base, kind, machine=CPU).kind.pooling == "pooler"
    weights = {key: value for key, value in load_file(base / "model.safetensors").items() if "pooler" not in key}
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    assert load_body(base, kind, machine=CPU).kind.pooling == "mean"
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(JobError, match=r"lack weights that it needs, such as encoder\.layer\.1\.output"):
        load_body(base, kind, machine=CPU)


def test_a_tuned_classifier_is_tuned_further_with_a_label_more(tmp_path, encoder, training):
    first, _ = job(tmp_path / "first", training, encoder, local={"tune": {"type": "head"}})
    more = write_examples(tmp_path / "more.jsonl", [*sentences(24, seed=3), *_greetings(8)])
    second, recording = job(
        tmp_path / "second", more, encoder, local={"tune": {"type": "head"}}, tuned_dir=first.model_dir
    )
    assert recording.reports[0].train_loss < 1.4, "it starts from what it knew"
    assert saving.read_note(second.model_dir).labels.names == ("animal", "fruit", "tool", "greeting")


def test_lower_layers_learn_slower_and_gradual_unfreezing_reaches_them_last(tmp_path, encoder, training):
    local = {"tune": {"type": "full"}, "classify": {"layer_decay": 0.5, "unfreeze": "gradually"}, "learning_rate": 1e-3}
    run = run_of(tmp_path, training, encoder, local=local, n_epochs=5)
    assert [part.depth for part in run.parts] == [0, 1, 2, 3, 4]
    assert [part.rate for part in run.parts[1:]] == pytest.approx([1e-3, 5e-4, 2.5e-4, 1.25e-4])
    training_parts = []
    for epoch in range(5):
        run.begin_epoch(epoch)
        training_parts.append(sum(all(p.requires_grad for _, p in part.parameters) for part in run.parts))
    assert training_parts == [1, 2, 3, 4, 5]


def test_a_warm_last_layer_is_right_before_the_body_has_trained(tmp_path, encoder, training):
    shares = {}
    for is_warm in (True, False):
        local = {"tune": {"type": "full"}, "classify": {"warm_start": is_warm}}
        run = run_of(tmp_path, training, encoder, local=local)
        found = loop.score(run, run.data.train, lambda: None)
        shares[is_warm] = (found.accuracy, found.loss)
    (warm_share, warm_loss), (cold_share, cold_loss) = shares[True], shares[False]
    assert warm_share > 0.95
    assert cold_share < 0.5
    assert warm_loss < 0.5 * cold_loss


def test_several_labels_an_example(tmp_path, encoder):
    dice = sentences(60, seed=2)
    examples = []
    for first, second in zip(dice[::2], dice[1::2], strict=True):
        labels = sorted({first["messages"][1]["content"], second["messages"][1]["content"]})
        text = f"{first['messages'][0]['content']} and {second['messages'][0]['content']}"
        examples.append(
            {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": json.dumps(labels)}]}
        )
    file = write_examples(tmp_path / "train.jsonl", examples)
    outcome, recording = job(
        tmp_path / "job", file, encoder, validation=file, local={"tune": {"type": "full"}}, n_epochs=15
    )
    assert recording.reports[-1].full_valid_mean_token_accuracy > 0.9
    classifier = saving.load(outcome.model_dir, machine=CPU)
    assert classifier.labels.is_multi
    config = json.loads((outcome.model_dir / "config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"


def test_validation_data_set_aside_have_every_label(tmp_path, encoder, training):
    kind = training_kind(ModelRef(base=str(encoder)), encoder, task="chat")
    body = load_body(encoder, kind, machine=CPU)
    task = task_of(tmp_path, training, encoder)
    data = read_data(task, body.reader, options={**options_of({}), "valid_share": 0.25}, known=None)
    assert (len(data.train), len(data.valid)) == (36, 12)
    assert sorted(row.targets for row in data.valid) == sorted([(0,), (1,), (2,)] * 4)
    assert not {row.line for row in data.train} & {row.line for row in data.valid}


def test_a_classifier_is_exported_as_the_folder_that_it_is_and_in_no_other_form(tmp_path, encoder, training):
    outcome, _ = job(tmp_path / "job", training, encoder, local={"tune": {"type": "head"}}, n_epochs=1)
    settings = Settings(home=tmp_path / "home", cache=tmp_path / "cache", allow_local_paths=True)
    ref = ModelRef(base=str(encoder), tuned_dir=outcome.model_dir)
    exported = export(ref, settings, form="merged", to=tmp_path / "out", name="things")
    assert {"model.safetensors", "last_layer.safetensors", "classifier.json", "README.md"} <= set(exported.files)
    assert saving.load(tmp_path / "out", machine=CPU).labels.names == ("animal", "fruit", "tool")
    with pytest.raises(UserError, match="is a classifier, which has no gguf form"):
        export(ref, settings, form="gguf", to=tmp_path / "other", name="things")


def _greetings(n):
    words = ["see", "i", "my", "very"]
    return [
        {
            "messages": [
                {"role": "user", "content": " ".join(words[: 1 + i % 4])},
                {"role": "assistant", "content": "greeting"},
            ]
        }
        for i in range(n)
    ]
