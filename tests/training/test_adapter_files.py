"""PEFT's file format, in and out: peft reads what is written here and computes the same, and the other way."""

import peft
import pytest
import torch

from local_backend.engine import adapters
from local_backend.task import JobError
from tests.training.tiny import tiny_model

# peft asks transformers for an attribute by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")

IDS = torch.tensor([[5, 6, 7, 8, 9, 10, 11, 12]])
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
    adapters.save_adapter(model, tmp_path, base="tiny", tune=tune(variant))
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
    adapters.save_adapter(trained("qwen3", options), tmp_path, base="tiny", tune=options)
    model = tiny_model("gemma", dtype=torch.float32)
    adapters.add_adapters(model, tune("lora", targets=["q_proj"]), seed=1)
    with pytest.raises(JobError, match="no place for"):
        adapters.load_adapter(model, tmp_path)


def test_parts_of_the_format_that_are_not_supported_are_named(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4, "modules_to_save": ["lm_head"]}')
    with pytest.raises(JobError, match="modules_to_save"):
        adapters.read_adapter_config(tmp_path)
