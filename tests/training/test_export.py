"""Exports answer like the model they came from, when read back by peft and transformers."""

import json
import os
import shutil
import subprocess
import sys

import gguf
import numpy as np
import pytest
import torch
import transformers

from local_backend.engine.exports.export import export
from local_backend.engine.generation.serving import Speaker
from local_backend.engine.weights import ensure
from local_backend.models import reference
from local_backend.settings import Settings
from local_backend.task import ChatRequest, ModelRef, UserError
from tests.training.chatty import write_adapter, write_tiny

TEXTS = ["the cat sat on the mat", "日本語 😀 naïve  café\n\n12345", " <|user|>the log<|end|>"]


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path / "home", cache=tmp_path / "cache", allow_local_paths=True)


def logits(model, tokenizer):
    with torch.no_grad():
        return [model(input_ids=torch.tensor([tokenizer(text)["input_ids"]])).logits[0] for text in TEXTS]


def load(folder, **options):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options).eval()
    return model, transformers.AutoTokenizer.from_pretrained(folder, **options)


def largest_difference(one, other):
    return max((a - b).abs().max().item() for a, b in zip(one, other, strict=True))


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft asks for it
@pytest.mark.parametrize("kind", [{}, {"use_rslora": True}, {"use_dora": True}])
@pytest.mark.parametrize("shape", ["llama", "gemma"])
def test_adapter_and_merged_model_are_the_tuned_model(kind, shape, tmp_path, settings):
    """Gemma's output layer is tied to its embeddings, Llama's here is not."""
    import peft

    base = write_tiny(tmp_path / "base", shape)
    ref = ModelRef(base=str(base), tuned_dir=write_adapter(tmp_path / "tuned", base, seed=1, **kind))
    model, tokenizer = load(base)
    plain = logits(model, tokenizer)
    expected = logits(peft.PeftModel.from_pretrained(model, ref.tuned_dir).eval(), tokenizer)
    assert largest_difference(plain, expected) > 0.1

    adapter = export(ref, settings, form="adapter", to=tmp_path / "adapter", name="ft:x:personal::abc")
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= set(adapter.files)
    again = peft.PeftModel.from_pretrained(load(base)[0], adapter.folder).eval()
    assert largest_difference(expected, logits(again, tokenizer)) < 1e-5

    taken_in = reference(str(adapter.folder), settings=settings)
    assert (taken_in.base, taken_in.tuned_dir) == (str(base), adapter.folder)

    merged = export(ref, settings, form="merged", to=tmp_path / "merged", name="ft:x:personal::abc")
    assert merged.verified.largest_difference < 1e-3
    assert merged.verified.same_choice > 0.98
    assert largest_difference(expected, logits(*load(merged.folder))) < 1e-3
    assert "vllm serve . --served-model-name ft-x-personal-abc" in (merged.folder / "HOW_TO_USE.md").read_text()


@pytest.mark.parametrize("quantisation", ["f16", "q8_0", "q4_0"])
@pytest.mark.parametrize("shape", ["llama", "qwen2", "qwen3", "mistral-unbounded"])
def test_a_gguf_reads_back_as_the_model_with_the_same_rounded_weights(shape, quantisation, tmp_path, settings):
    base = write_tiny(tmp_path / "base", shape, seed=2)
    made = export(
        ModelRef(base=str(base)), settings, form="gguf", to=tmp_path / "out", name="tiny", quantisation=quantisation
    )
    file = f"tiny.{quantisation}.gguf"
    assert list(made.files) == ["Modelfile", file] or set(made.files) == {"Modelfile", file}
    got, got_tokenizer = load(made.folder, gguf_file=file)
    expected, tokenizer = load(base)
    round_weights(expected, made.folder / file)
    assert largest_difference(logits(expected, tokenizer), logits(got, got_tokenizer)) < 2e-3
    prompt = torch.tensor([tokenizer(TEXTS[0])["input_ids"]])
    answers = [model.generate(prompt, max_new_tokens=20, do_sample=False).tolist() for model in (expected, got)]
    assert answers[0] == answers[1]
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"]
        assert got_tokenizer(text)["input_ids"] == ids
        assert got_tokenizer.decode(ids) == tokenizer.decode(ids)
    assert got_tokenizer.chat_template == tokenizer.chat_template
    assert got_tokenizer.eos_token == tokenizer.eos_token


def round_weights(model, file):
    """Give a model the precision that each of its tensors has in the file, by gguf's own arithmetic."""
    kinds = {tensor.name: tensor.tensor_type for tensor in gguf.GGUFReader(file).tensors}
    architecture = gguf.MODEL_ARCH[model.config.model_type.replace("mistral", "llama").upper()]
    names = gguf.get_tensor_name_map(architecture, model.config.num_hidden_layers)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            kind = kinds[names.get_name(key, try_suffixes=(".weight", ".bias"))]
            rounded = gguf.quants.dequantize(gguf.quants.quantize(parameter.numpy(), kind), kind)
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(rounded)).reshape(parameter.shape))


def test_quantised_files_get_smaller(tmp_path, settings):
    base = write_tiny(tmp_path / "base")
    sizes = []
    for quantisation in ("f16", "q8_0", "q4_0"):
        to = tmp_path / quantisation
        export(ModelRef(base=str(base)), settings, form="gguf", to=to, name="t", quantisation=quantisation)
        sizes.append((to / f"t.{quantisation}.gguf").stat().st_size)
    assert sizes == sorted(sizes, reverse=True)


def test_llama_3_rotary_scaling_goes_along(tmp_path, settings):
    """Its factors are the slow-down of each frequency: 1 for the fast ones, 8 for the slow ones."""
    base = write_tiny(tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    config["rope_parameters"] = {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    (base / "config.json").write_text(json.dumps(config))
    export(ModelRef(base=str(base)), settings, form="gguf", to=tmp_path / "out", name="t", quantisation="f16")
    reader = gguf.GGUFReader(tmp_path / "out" / "t.f16.gguf")
    (factors,) = [tensor.data for tensor in reader.tensors if tensor.name == "rope_freqs.weight"]
    assert factors[0] == 1
    assert factors[-1] == pytest.approx(8)


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ("gemma", "gemma"),
        ("gemma3", "gemma3_text"),
        ("gpt-neox", "gpt_neox"),
        ("mistral", "sliding"),
        ("llama-biased", "biases"),
        ("llama-gelu", "gelu"),
    ],
)
def test_what_gguf_can_not_hold_is_refused_with_the_way_out(shape, reason, tmp_path, settings):
    base = write_tiny(tmp_path / "base", shape)
    with pytest.raises(UserError, match=reason) as caught:
        export(ModelRef(base=str(base)), settings, form="gguf", to=tmp_path / "out", name="t")
    assert "merged" in caught.value.message
    with pytest.raises(UserError, match="no adapter"):
        export(ModelRef(base=str(base)), settings, form="adapter", to=tmp_path / "none", name="t")


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft asks for it
@pytest.mark.parametrize(("rank", "said"), [(4, 8), (12, 16), (257, 320)])
def test_vllm_is_told_a_rank_that_it_takes(rank, said, tmp_path, settings):
    base = write_tiny(tmp_path / "base")
    adapter = write_adapter(tmp_path / "tuned", base, seed=1)
    set_config(adapter, r=rank)
    made = export(ModelRef(base=str(base), tuned_dir=adapter), settings, form="adapter", to=tmp_path / "out", name="t")
    assert f"--max-lora-rank {said} " in made.commands[0]


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft asks for it
@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"use_dora": True}, "DoRA adapters"),
        ({"r": 513}, "adapters of rank 513"),
        ({"rank_pattern": {"q_proj": 600}}, "adapters of rank 600"),
    ],
)
def test_an_adapter_that_vllm_does_not_take_comes_with_the_way_out(changes, what, tmp_path, settings):
    base = write_tiny(tmp_path / "base")
    adapter = write_adapter(tmp_path / "tuned", base, seed=1)
    set_config(adapter, **changes)
    made = export(ModelRef(base=str(base), tuned_dir=adapter), settings, form="adapter", to=tmp_path / "out", name="t")
    assert made.commands == ()
    note = (made.folder / "HOW_TO_USE.md").read_text()
    assert f"vLLM takes no {what}: export it as `merged`" in note
    assert "vllm serve" not in note


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft asks for it
@pytest.mark.parametrize("changes", [{"r": None}, {"lora_alpha": None}, {"r": "four"}, {"r": 0}])
def test_an_adapter_without_rank_and_scale_is_refused_with_words(changes, tmp_path, settings):
    base = write_tiny(tmp_path / "base")
    ref = ModelRef(base=str(base), tuned_dir=write_adapter(tmp_path / "tuned", base, seed=1))
    set_config(ref.tuned_dir, **changes)
    speaker = Speaker(settings)
    with pytest.raises(UserError, match="r and lora_alpha") as caught:
        speaker.chat(ref, ChatRequest(messages=[{"role": "user", "content": "x"}]))
    assert caught.value.code == "model_not_supported"
    speaker.close()
    with pytest.raises(UserError, match="r and lora_alpha"):
        export(ref, settings, form="adapter", to=tmp_path / "out", name="t")


def set_config(adapter, **changes):
    """Let an adapter say other things of itself; None takes a value away."""
    file = adapter / "adapter_config.json"
    config = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({name: value for name, value in config.items() if value is not None}))


def test_code_in_a_models_folder_is_never_run(tmp_path, settings):
    """A config that names code of its own is refused, not obeyed."""
    base = write_tiny(tmp_path / "base")
    config = json.loads((base / "config.json").read_text()) | {
        "model_type": "evil",
        "auto_map": {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"},
    }
    (base / "config.json").write_text(json.dumps(config))
    (base / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    speaker = Speaker(settings)
    with pytest.raises(UserError, match="can't be used for chat"):
        speaker.chat(ModelRef(base=str(base)), ChatRequest(messages=[{"role": "user", "content": "x"}]))
    assert not (tmp_path / "ran").exists()


def test_a_folder_in_use_is_left_alone(tmp_path, settings):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("x")
    with pytest.raises(UserError, match="not empty"):
        export(ModelRef(base=str(tmp_path)), settings, form="merged", to=tmp_path / "out", name="t")


def test_two_processes_that_need_a_model_convert_it_once(tmp_path, settings):
    """A GGUF file as base model; both get the same folder, and nothing else is left."""
    base = write_tiny(tmp_path / "base")
    export(ModelRef(base=str(base)), settings, form="gguf", to=tmp_path / "out", name="t", quantisation="f16")
    file = tmp_path / "out" / "t.f16.gguf"
    code = (
        "import sys; from pathlib import Path\n"
        "from local_backend.engine import gguf_import, weights\n"
        "from local_backend.settings import Settings\n"
        "convert = gguf_import.convert\n"
        "def told(*args, **more): print('converts', flush=True); convert(*args, **more)\n"
        "gguf_import.convert = told\n"
        "settings = Settings(home=Path(sys.argv[1]), cache=Path(sys.argv[1]), allow_local_paths=True)\n"
        "print(weights.ensure(sys.argv[2], settings).sha256)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "shared"), str(file)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    lines = [process.communicate(timeout=200)[0].split() for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert sorted(len(words) for words in lines) == [1, 2]
    assert len({words[-1] for words in lines}) == 1
    mine = ensure(str(file), Settings(home=tmp_path, cache=tmp_path / "shared", allow_local_paths=True))
    assert mine.sha256 == lines[0][-1]
    assert sorted(path.suffix for path in (tmp_path / "shared" / "models").iterdir()) == [".gguf", ".lock"]


def test_a_gguf_file_that_was_written_anew_is_taken_in_anew(tmp_path, settings):
    """By what is in it: a new date alone converts nothing."""
    file, speaker = tmp_path / "mine.gguf", Speaker(settings)
    request = ChatRequest(messages=[{"role": "user", "content": "the cat"}], temperature=0.0, max_tokens=12)
    said = []
    for seed in (1, 2):
        base, out = write_tiny(tmp_path / f"base-{seed}", seed=seed), tmp_path / f"out-{seed}"
        export(ModelRef(base=str(base)), settings, form="gguf", to=out, name="t", quantisation="f16")
        shutil.copyfile(out / "t.f16.gguf", file)
        answer = speaker.chat(ModelRef(base=str(file)), request)
        said.append("".join(piece.text for piece in answer.deltas))
    speaker.close()
    assert said[0] != said[1]
    taken_in = ensure(str(file), settings)
    fresh = ensure(str(file), Settings(home=tmp_path, cache=tmp_path / "fresh", allow_local_paths=True))
    assert taken_in.sha256 == fresh.sha256
    converted = (taken_in.path / "model.safetensors").stat()
    os.utime(file, (0, 0))
    assert ensure(str(file), settings) == taken_in
    assert (taken_in.path / "model.safetensors").stat().st_ino == converted.st_ino
