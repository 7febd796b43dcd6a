"""Vision-language models: images become the tokens, losses and answers that transformers gives."""

import peft
import pytest
import torch
import transformers

from ftclient.data.decoding import decode
from local_backend.engine.exports.export import export
from local_backend.engine.loop import train
from local_backend.engine.template import Template
from local_backend.engine.training import prepare
from local_backend.engine.vision.reader import reader_of
from local_backend.engine.vision.template import VisionTemplate
from local_backend.engine.weights import ModelDir
from local_backend.images import from_url
from local_backend.settings import Settings
from local_backend.task import JobError, ModelRef, Signal, UserError
from tests.training.tiny import Recording, chat, task_of, tiny_folder, write_jsonl
from tests.training.tiny_vision import image_part, picture, seen, text_part, vision_folder

DARK, LIGHT = picture(10), picture(200, size=(30, 70))
TWO = seen("both", text_part("Compare "), image_part(DARK), text_part(" and "), image_part(LIGHT))
EXAMPLES = [
    seen("dark", image_part(DARK), text_part("Which?")),
    seen("light", text_part("Which?"), image_part(LIGHT)),
    TWO,
    chat("No image at all", "none"),
]


@pytest.fixture(scope="module", params=["idefics3", "qwen2_vl"])
def base(request, tmp_path_factory):
    return vision_folder(request.param, tmp_path_factory.mktemp(request.param))


def model_of(base):
    return transformers.AutoModelForImageTextToText.from_pretrained(base.path, dtype=torch.float32)


def by_transformers(base, example, *, opens_answer=False):
    """Ids and further arguments as transformers' own pieces make them: template, image words, tokenizer."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(base.path)
    reader = reader_of(base.path, tokenizer)
    parts = [part for message in example["messages"] for part in message["content"] if isinstance(part, dict)]
    images = [decode(from_url(part["image_url"]["url"])) for part in parts if part["type"] == "image_url"]
    messages = example["messages"][:-1] if opens_answer else example["messages"]
    text = tokenizer.apply_chat_template(
        [{"role": message["role"], "content": _plain_parts(message["content"])} for message in messages],
        tokenize=False,
        add_generation_prompt=opens_answer,
    )
    if not images:
        return torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]]), {}
    if base.path.name.startswith("idefics3"):
        processor = transformers.Idefics3Processor(
            transformers.AutoImageProcessor.from_pretrained(base.path, backend="pil"), tokenizer, image_seq_len=4
        )
        found = processor(text=[text], images=[images], add_special_tokens=False, return_tensors="pt")
        return found["input_ids"], {name: found[name] for name in ("pixel_values", "pixel_attention_mask")}
    found = reader.inputs(images)
    for rows_columns in found["image_grid_thw"]:
        text = text.replace("<|image_pad|>", "<|piece|>" * int(rows_columns.prod() // 4), 1)
    ids = torch.tensor([tokenizer(text.replace("<|piece|>", "<|image_pad|>"), add_special_tokens=False)["input_ids"]])
    kinds = (ids == tokenizer.convert_tokens_to_ids("<|image_pad|>")).long()
    return ids, {**found, "mm_token_type_ids": kinds}


def _plain_parts(content):
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [{"type": "image"} if part["type"] == "image_url" else part for part in content]


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_become_the_tokens_of_transformers_and_only_answers_are_trained(base, example):
    (rendered,) = Template.of(base.path).render(example)
    ids, _ = by_transformers(base, example)
    assert rendered.ids == ids[0].tolist()
    tokenizer = transformers.AutoTokenizer.from_pretrained(base.path)
    trained = [token for token, weight in zip(rendered.ids, rendered.weights, strict=True) if weight]
    assert tokenizer.decode(trained).removeprefix(" ") == example["messages"][-1]["content"] + "<|im_end|>"


def test_losses_and_gradients_are_those_of_transformers_one_example_at_a_time(base, tmp_path):
    run = prepare(task_of(tmp_path, write_jsonl(tmp_path / "t.jsonl", EXAMPLES * 3)), base=base)
    rows = run.rows[:4]
    measured = run.objective.train(rows, max_tokens=1000, between=lambda: None)
    ours = {name: parameter.grad.clone() for name, parameter in run.network.parameters()}
    run.optimizer.zero_grad()
    total = torch.zeros(())
    weight = sum(sum(row.parts[0].weights) for row in rows)
    for row, example in zip(rows, EXAMPLES, strict=True):
        ids, more = by_transformers(base, example)
        logits = run.network.model(input_ids=ids, use_cache=False, **more).logits[0, :-1]
        nll = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none")
        total = total + (nll * torch.tensor(row.parts[0].weights[1:])).sum() / weight
    total.backward()
    assert measured.loss == pytest.approx(float(total.detach()), rel=1e-5)
    for name, parameter in run.network.parameters():
        assert torch.allclose(ours[name], parameter.grad, rtol=1e-4, atol=1e-6), name
    assert "images are not packed" in run.facts()["packing"]


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft asks for it
def test_it_learns_what_images_show_and_peft_reads_the_result(base, tmp_path):
    shades = [picture(shade, size=(32, 32)) for shade in (5, 15, 25, 190, 200, 210)]
    examples = [seen("no" if i < 3 else "yes", image_part(shade)) for i, shade in enumerate(shades)] * 2
    task = task_of(tmp_path, write_jsonl(tmp_path / "t.jsonl", examples), n_epochs=12, batch_size=6)
    run = prepare(task, base=base)
    recorder = Recording()
    outcome = train(run, recorder)
    assert recorder.reports[-1].train_mean_token_accuracy == 1.0
    assert recorder.reports[-1].train_loss < 0.1 * recorder.reports[0].train_loss
    assert all("vision" not in name and "visual" not in name for name, _ in run.network.parameters())

    tuned = peft.PeftModel.from_pretrained(model_of(base), outcome.model_dir).eval()
    run.network.model.eval()
    ids, more = by_transformers(base, examples[0])
    with torch.no_grad():
        theirs, ours = (model(input_ids=ids, **more).logits for model in (tuned, run.network.model))
    assert torch.allclose(theirs, ours, atol=1e-4)


def test_a_paused_run_goes_on_to_the_very_same_bits(base, tmp_path):
    file = write_jsonl(tmp_path / "t.jsonl", EXAMPLES * 3)
    whole = train(prepare(task_of(tmp_path / "whole", file), base=base), Recording())
    paused = train(prepare(task_of(tmp_path / "paused", file), base=base), Recording({2: Signal.PAUSE}))
    assert paused.kind == "paused"
    resumed = train(prepare(task_of(tmp_path / "paused", file), base=base), Recording())
    contents = [(one.model_dir / "adapter_model.safetensors").read_bytes() for one in (whole, resumed)]
    assert contents[0] == contents[1]


def test_texts_that_look_like_images_are_refused_with_their_line(base, tmp_path):
    token = Template.of(base.path).reader.image_token
    lines = [*EXAMPLES * 3, seen("x", text_part(f"See {token}"))]
    with pytest.raises(JobError, match=r"Line 13: A text contains .* which stands for an image"):
        prepare(task_of(tmp_path, write_jsonl(tmp_path / "t.jsonl", lines)), base=base)


def test_damaged_images_and_addresses_are_refused_with_their_line(base, tmp_path):
    cut_off = seen("x", image_part(DARK[:200]))
    address = seen("x", {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}})
    for bad, words in ((cut_off, "cut off"), (address, "nothing is fetched")):
        with pytest.raises(JobError, match=f"Line 5: .*{words}"):
            prepare(task_of(tmp_path, write_jsonl(tmp_path / "t.jsonl", [*EXAMPLES, bad])), base=base)


def test_only_lora_tunes_them(base, tmp_path):
    task = task_of(tmp_path, write_jsonl(tmp_path / "t.jsonl", EXAMPLES), local={"tune": {"type": "full"}})
    with pytest.raises(JobError, match="tuned by LoRA here"):
        prepare(task, base=base)


def test_a_model_of_text_alone_refuses_images(tmp_path):
    with pytest.raises(UserError, match="reads text only"):
        Template.of(tiny_folder(tmp_path).path).render(TWO)


def test_a_system_message_that_the_template_leaves_out_is_refused(base):
    template = Template.of(base.path)
    prompt = [{"role": "system", "content": [text_part("Be brief.")]}, TWO["messages"][0]]
    assert template.prompt(prompt)
    loop = "{% for message in messages"
    template.tokenizer.chat_template = template.tokenizer.chat_template.replace(
        f"{loop} %}}", f"{loop} if message['role'] != 'system' %}}"
    )
    deaf = VisionTemplate(template.tokenizer, template.reader)
    assert deaf.prompt(prompt[1:])
    with pytest.raises(UserError, match=r"leaves out what message 1 \(system\) says"):
        deaf.prompt(prompt)


@pytest.mark.parametrize("first", ["Be brief.", " "])
def test_each_part_of_a_system_message_must_reach_the_model(base, first):
    """Gemma 3's template writes the first part alone."""
    template = Template.of(base.path)
    prompt = [{"role": "system", "content": [text_part(first), text_part("Be kind.")]}, TWO["messages"][0]]
    assert template.prompt(prompt)
    loop = "for part in message['content']"
    template.tokenizer.chat_template = template.tokenizer.chat_template.replace(
        f"{loop} %}}", f"{loop}[: 1 if message['role'] == 'system' else none] %}}"
    )
    hard_of_hearing = VisionTemplate(template.tokenizer, template.reader)
    assert hard_of_hearing.prompt([{**prompt[0], "content": [text_part(first)]}, prompt[1]])
    with pytest.raises(UserError, match=r"leaves out what message 1 \(system\) says"):
        hard_of_hearing.prompt(prompt)


def test_images_of_one_size_are_the_same_tokens_and_other_pixels(base):
    template = Template.of(base.path)
    first, second = (template.render(seen("x", image_part(picture(shade))))[0] for shade in (10, 90))
    assert first.ids == second.ids
    assert first.images != second.images


def test_a_merged_export_is_a_whole_model_that_reads_images(base, tmp_path):
    task = task_of(tmp_path / "job", write_jsonl(tmp_path / "t.jsonl", EXAMPLES * 3), n_epochs=1)
    outcome = train(prepare(task, base=base), Recording())
    settings = Settings(home=tmp_path, cache=tmp_path, allow_local_paths=True)
    tuned = ModelRef(base=str(base.path), tuned_dir=outcome.model_dir)
    exported = export(tuned, settings=settings, form="merged", to=tmp_path / "merged", name="seer")
    assert exported.verified.largest_difference < 1e-2
    merged = ModelDir(path=tmp_path / "merged", sha256="", name="merged")
    ids, more = by_transformers(base, TWO)
    assert Template.of(merged.path).render(TWO)[0].ids == ids[0].tolist()
    assert torch.isfinite(model_of(merged)(input_ids=ids, **more).logits).all()
    with pytest.raises(UserError, match="no gguf form"):
        export(tuned, settings=settings, form="gguf", to=tmp_path / "gguf", name="seer")
