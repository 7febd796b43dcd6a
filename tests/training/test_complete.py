"""A model whose files lack weights is refused wherever it would be used: transformers would make them up."""

import json

import pytest
from safetensors.torch import load_file, save_file

from local_backend.engine import gguf_import
from local_backend.engine.classify.body import load_body
from local_backend.engine.classify.routing import training_kind
from local_backend.engine.exports import gguf
from local_backend.engine.exports.merge import merge
from local_backend.engine.generation.load import load
from local_backend.engine.network import load_network
from local_backend.task import JobError, ModelRef, UserError
from tests.training.chatty import write_adapter, write_tiny
from tests.training.digits import vit_folder
from tests.training.tiny import tiny_folder
from tests.training.tiny_classifier import CPU

GONE = "model.layers.1.mlp.up_proj.weight"
WORDS = r"lack weights that it needs, such as model\.layers\.1\.mlp\.up_proj\.weight\. They would be random"


def without(folder, *names):
    """Take weights out of a model's file."""
    weights = load_file(folder / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if name not in names}
    assert len(kept) == len(weights) - len(names)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture
def whole(tmp_path):
    return write_tiny(tmp_path / "base")


def test_training_refuses_it(whole):
    load_network(whole, CPU)
    with pytest.raises(JobError, match=WORDS) as caught:
        load_network(without(whole, GONE), CPU)
    assert (caught.value.code, caught.value.param) == ("model_not_supported", "model")


def test_many_missing_weights_are_counted(whole):
    gone = [f"model.layers.{i}.self_attn.{one}_proj.weight" for i in (0, 1) for one in "qkv"]
    with pytest.raises(JobError, match=r"layers\.0\.self_attn\.k_proj\.weight, .* and 3 more\."):
        load_network(without(whole, *gone), CPU)


def test_an_output_layer_that_is_tied_need_not_be_there_and_another_must(whole, tmp_path):
    tied = tiny_folder(tmp_path / "tied").path
    assert "lm_head.weight" not in load_file(tied / "model.safetensors")
    load_network(tied, CPU)
    with pytest.raises(JobError, match=r"such as lm_head\.weight"):
        load_network(without(whole, "lm_head.weight"), CPU)


def test_weights_of_another_shape_are_refused(whole):
    config = json.loads((whole / "config.json").read_text())
    (whole / "config.json").write_text(json.dumps({**config, "intermediate_size": config["intermediate_size"] + 8}))
    with pytest.raises(JobError, match="can't be loaded for training"):
        load_network(whole, CPU)
    with pytest.raises(UserError, match="can't be used for chat"):
        load(whole, tokenizer_dir=whole)


def test_chat_refuses_it(whole):
    load(whole, tokenizer_dir=whole)
    with pytest.raises(UserError, match=WORDS) as caught:
        load(without(whole, GONE), tokenizer_dir=whole)
    assert caught.value.code == "model_not_supported"


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft asks for it
def test_a_merge_refuses_it(whole, tmp_path):
    adapter = write_adapter(tmp_path / "tuned", whole, seed=0)
    with pytest.raises(UserError, match=WORDS):
        merge(without(whole, GONE), adapter, to=tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_a_gguf_without_them_is_refused(whole, tmp_path, monkeypatch):
    tensors = gguf._tensors
    monkeypatch.setattr(
        gguf, "_tensors", lambda folder, config: (one for one in tensors(folder, config) if one[0] != GONE)
    )
    gguf.write_gguf(whole, to=tmp_path / "part.gguf", quantisation="f16", name="part")
    with pytest.raises(UserError, match=WORDS):
        gguf_import.convert(tmp_path / "part.gguf", to=tmp_path / "converted")
    assert not (tmp_path / "converted").exists()


def test_an_image_models_last_layer_may_be_new_and_nothing_else(tmp_path):
    base = vit_folder(tmp_path / "vit").path
    kind = training_kind(ModelRef(base=str(base)), base, task="classify")
    head = [name for name in load_file(base / "model.safetensors") if name.startswith("classifier.")]
    assert head
    load_body(without(base, *head), kind, machine=CPU)
    gone = next(name for name in load_file(base / "model.safetensors") if name.endswith("dense.weight"))
    with pytest.raises(JobError, match="lack weights that it needs"):
        load_body(without(base, gone), kind, machine=CPU)
