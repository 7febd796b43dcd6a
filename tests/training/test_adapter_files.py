"""PEFT's file format, in and out: peft reads what is written here and computes the same, and the other way."""

import json
from dataclasses import replace
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from local_backend.engine import TorchEngine, adapters
from local_backend.engine.exports.export import export
from local_backend.engine.weights import ModelDir
from local_backend.settings import Settings
from local_backend.task import ChatRequest, JobError, ModelRef, UserError
from tests.training.tiny import Recording, chat, task_of, tiny_folder, tiny_model, write_jsonl

# peft asks transformers for an attribute by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")

IDS = torch.tensor([[5, 6, 7, 8, 9, 10, 11, 12]])
BASE = ModelDir(path=Path("tiny"), sha256="1" * 64, name="tiny")
VARIANTS = ["lora", "rslora", "dora"]


def tune(variant, **more):
    return {"type": "lora", "rank": 4, "alpha": 8, "variant": variant, **more}


def trained(shape, options):
    """A model whose adapter is away from its start."""
    model = tiny_model(shape, dtype=torch.float32)
    adapters.add_adapters(model, options, seed=1)
    generator = torch.Generator().manual_seed(2)
    for _, layer in adapters.adapted_layers(model):
        layer.lora_B.data.copy_(torch.randn(layer.lora_B.shape, generator=generator) * 0.2)
        if layer.magnitude is not None:
            layer.magnitude.data.mul_(1.0 + 0.1 * torch.rand(layer.magnitude.shape, generator=generator))
    return model


def logits(model):
    model.eval()
    with torch.no_grad():
        return model(input_ids=IDS).logits


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("shape", ["llama-biased", "gemma3"])
def test_peft_reads_ours(shape, variant, tmp_path):
    model = trained(shape, tune(variant))
    adapters.save_adapter(model, tmp_path, base=BASE, tune=tune(variant))
    theirs = peft.PeftModel.from_pretrained(tiny_model(shape, dtype=torch.float32), tmp_path)
    assert torch.allclose(logits(theirs), logits(model), atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_we_read_pefts(variant, tmp_path):
    config = peft.LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules="all-linear",
        use_rslora=variant == "rslora",
        use_dora=variant == "dora",
        init_lora_weights=False,
        task_type="CAUSAL_LM",
    )
    theirs = peft.get_peft_model(tiny_model("llama", dtype=torch.float32), config)
    theirs.save_pretrained(tmp_path)
    options = adapters.read_adapter_config(tmp_path)
    assert options["variant"] == variant
    model = tiny_model("llama", dtype=torch.float32)
    adapters.add_adapters(model, options, seed=1)
    adapters.load_adapter(model, tmp_path)
    assert torch.allclose(logits(model), logits(theirs), atol=1e-5)


def test_all_linear_is_what_peft_means_by_it():
    config = peft.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    theirs = peft.get_peft_model(tiny_model("qwen3", dtype=torch.float32), config)
    wanted = {name for name, module in theirs.base_model.model.named_modules() if hasattr(module, "lora_A")}
    model = tiny_model("qwen3", dtype=torch.float32)
    assert set(adapters.add_adapters(model, tune("lora"), seed=0)) == wanted


def test_the_start_changes_nothing_and_depends_on_the_seed_alone():
    before = logits(tiny_model("llama", dtype=torch.float32))
    starts = []
    for seed in (1, 1, 2):
        torch.rand(3)  # other draws must not matter
        model = tiny_model("llama", dtype=torch.float32)
        adapters.add_adapters(model, tune("lora"), seed=seed)
        assert torch.allclose(logits(model), before, atol=1e-6)
        starts.append(torch.cat([layer.lora_A.detach().flatten() for _, layer in adapters.adapted_layers(model)]))
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])


def test_an_adapter_for_other_layers_is_refused(tmp_path):
    options = tune("lora")
    adapters.save_adapter(trained("qwen3", options), tmp_path, base=BASE, tune=options)
    model = tiny_model("gemma", dtype=torch.float32)
    adapters.add_adapters(model, tune("lora", targets=["q_proj"]), seed=1)
    with pytest.raises(JobError, match="no place for"):
        adapters.load_adapter(model, tmp_path)


def test_parts_of_the_format_that_are_not_supported_are_named(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4, "modules_to_save": ["lm_head"]}')
    with pytest.raises(JobError, match="modules_to_save"):
        adapters.read_adapter_config(tmp_path)


WHOLE = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"r": None}, "no fitting `r`"),
        ({"r": "four"}, "no fitting `r`"),
        ({"lora_alpha": None}, "no fitting `lora_alpha`"),
        ({"lora_dropout": "none"}, "no fitting `lora_dropout`"),
        ({"target_modules": None}, "no fitting `target_modules`"),
        ({"target_modules": []}, "no fitting `target_modules`"),
        ({"target_modules": 1}, "no fitting `target_modules`"),
        ({"target_modules": [1]}, "no fitting `target_modules`"),
        ({"target_modules": r".*\.q_proj"}, "a pattern as target_modules"),
    ],
)
def test_an_adapter_that_does_not_say_what_it_is_is_refused_with_words(changes, said, tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps(WHOLE | changes))
    with pytest.raises(JobError, match=said) as caught:
        adapters.read_adapter_config(tmp_path)
    assert (caught.value.code, caught.value.param) == ("model_not_supported", "model")


def test_an_adapter_whose_configuration_is_damaged_is_refused_with_words(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4')
    with pytest.raises(JobError, match="no JSON object"):
        adapters.read_adapter_config(tmp_path)


def test_training_on_an_adapter_that_misses_its_rank_ends_with_words(tmp_path):
    settings = Settings(home=tmp_path / "home", allow_local_paths=True)
    base = tiny_folder(tmp_path / "base").path
    model, task = tuned_on(base, tmp_path, settings)
    file = model.tuned_dir / "adapter_config.json"
    file.write_text(json.dumps({key: value for key, value in json.loads(file.read_text()).items() if key != "r"}))
    with pytest.raises(JobError, match="no fitting `r`"):
        TorchEngine(settings).train(replace(task, model=model, work_dir=tmp_path / "further"), Recording())


def tuned_on(base, folder, settings):
    """A model tuned by the engine on the weights in a folder."""
    ref = ModelRef(base=str(base))
    training = write_jsonl(folder / "t.jsonl", [chat(f"Say {n}", str(n)) for n in range(10)])
    task = replace(task_of(folder / "job", training, n_epochs=1, batch_size=5), model=ref)
    return replace(ref, tuned_dir=TorchEngine(settings).train(task, Recording()).model_dir), task


def test_an_adapter_is_refused_once_its_base_model_has_changed(tmp_path):
    """Chatting, training further and exporting alike: its numbers mean nothing on other weights."""
    settings = Settings(home=tmp_path / "home", allow_local_paths=True)
    base = tiny_folder(tmp_path / "base").path
    model, task = tuned_on(base, tmp_path, settings)
    request = ChatRequest(messages=[{"role": "user", "content": "Say 3"}], max_tokens=2)
    engine = TorchEngine(settings)
    assert list(engine.chat(model, request).deltas)
    tensors = load_file(base / "model.safetensors")
    save_file({name: tensor * 1.01 for name, tensor in tensors.items()}, base / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"tuned on weights of .* with the sha256"):
        engine.chat(model, request)
    with pytest.raises(JobError, match="use a `merged` export of it") as caught:
        engine.train(replace(task, model=model, work_dir=tmp_path / "further"), Recording())
    assert (caught.value.code, caught.value.param) == ("base_model_changed", "model")
    for form in ("adapter", "merged"):
        with pytest.raises(UserError, match="sha256"):
            export(model, settings, form=form, to=tmp_path / form, name="x")
    assert list(engine.chat(ModelRef(base=str(base)), request).deltas)
