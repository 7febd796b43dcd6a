"""A folder says that transformers loads it as a classifier only where transformers' class pools as this one does."""

import json

import torch
import transformers
from safetensors.torch import load_file

from local_backend.engine.classify import loop, saving
from local_backend.engine.classify.routing import training_kind
from local_backend.engine.classify.serving import Classifiers
from local_backend.task import ChatRequest, ModelRef
from tests.training.tiny import Recording
from tests.training.tiny_classifier import CPU, base_of, sentences, task_of, write_encoder, write_examples


def test_an_encoder_that_is_pooled_by_its_last_token_stays_an_encoder(tmp_path):
    base = write_encoder(tmp_path / "base", "roberta", pooling="mean")
    pooling = {"pooling_mode_lasttoken": True, "pooling_mode_mean_tokens": False}
    (base / "1_Pooling" / "config.json").write_text(json.dumps(pooling), encoding="utf-8")
    training = write_examples(tmp_path / "train.jsonl", sentences(24))
    task = task_of(tmp_path / "job", training, base, local={"tune": {"type": "head"}}, n_epochs=1)
    kind = training_kind(ModelRef(base=str(base)), base, task="classify")
    assert kind.pooling == "last"
    folder = loop.train(task, base=base_of(base), kind=kind, recorder=Recording()).model_dir
    assert "`transformers.AutoModel`" in (folder / "README.md").read_text(encoding="utf-8")
    ids = torch.tensor([[2, 5, 18, 7, 3]])
    features_W = transformers.AutoModel.from_pretrained(folder).eval()(input_ids=ids).last_hidden_state[0, -1]
    layer = load_file(folder / "last_layer.safetensors")
    expected_L = torch.log_softmax(features_W @ layer["weight"].T + layer["bias"], dim=0)
    found_BL = saving.load(folder, machine=CPU).predict(ids.tolist())
    torch.testing.assert_close(found_BL[0], expected_L.detach(), rtol=1e-3, atol=1e-4)


def test_of_a_folder_that_is_written_anew_one_classifier_is_in_memory(tmp_path):
    base = write_encoder(tmp_path / "base")
    training = write_examples(tmp_path / "train.jsonl", sentences(24))
    task = task_of(tmp_path / "job", training, base, local={"tune": {"type": "head"}}, n_epochs=1)
    kind = training_kind(ModelRef(base=str(base)), base, task="classify")
    folder = loop.train(task, base=base_of(base), kind=kind, recorder=Recording()).model_dir
    classifiers = Classifiers()
    request = ChatRequest(messages=[{"role": "user", "content": "the cat"}])
    classifiers.chat(folder, request)
    (first,) = classifiers._desks.values()
    (folder / "README.txt").write_text("Written anew.", encoding="utf-8")
    classifiers.chat(folder, request)
    (second,) = classifiers._desks.values()
    assert second is not first
