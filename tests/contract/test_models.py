"""Models are listed, found, deleted and shared as OpenAI's."""

from __future__ import annotations

import openai
import pytest

from local_backend import in_process
from local_backend.settings import Settings


def test_base_models_aliases_and_tuned_models_are_listed(api, train):
    job = train()
    models = {model.id: model for model in api.models.list()}
    assert {"smollm2-135m", "gpt-4o-mini", job.fine_tuned_model} <= set(models)
    assert models[job.fine_tuned_model].owned_by == "personal"
    assert models["smollm2-135m"].shutdown_date is None
    for name in ("smollm2-135m", "gpt-4o-mini", job.fine_tuned_model):
        assert api.models.retrieve(name) == models[name]


def test_a_hub_id_with_a_slash_can_be_retrieved(api):
    assert api.models.retrieve("HuggingFaceTB/SmolLM2-135M-Instruct").id == "HuggingFaceTB/SmolLM2-135M-Instruct"


def test_a_deleted_model_answers_no_more(api, train):
    name = train().fine_tuned_model
    deleted = api.models.delete(name)
    assert (deleted.id, deleted.object, deleted.deleted) == (name, "model", True)
    assert name not in {model.id for model in api.models.list()}
    for call in (
        lambda: api.models.retrieve(name),
        lambda: api.models.delete(name),
        lambda: api.chat.completions.create(model=name, messages=[{"role": "user", "content": "x"}]),
    ):
        with pytest.raises(openai.NotFoundError) as caught:
            call()
        assert caught.value.code == "model_not_found"


def test_a_base_model_without_weights_here_cannot_be_deleted(api):
    with pytest.raises(openai.BadRequestError, match="no weights are on this machine"):
        api.models.delete("qwen3-1.7b")


def test_permissions_of_a_checkpoint_are_kept(api, train):
    name = train().fine_tuned_model
    permissions = api.fine_tuning.checkpoints.permissions
    made = list(permissions.create(name, project_ids=["proj_a", "proj_b", "proj_c"]))
    assert [item.project_id for item in made] == ["proj_a", "proj_b", "proj_c"]
    listed = [item.project_id for item in permissions.list(name, limit=2)]
    assert listed == ["proj_c", "proj_b", "proj_a"]
    assert [item.project_id for item in permissions.list(name, order="ascending")] == listed[::-1]
    assert [item.id for item in permissions.list(name, project_id="proj_b")] == [made[1].id]
    gone = permissions.delete(made[1].id, fine_tuned_model_checkpoint=name)
    assert (gone.id, gone.deleted, gone.object) == (made[1].id, True, "checkpoint.permission")
    assert [item.project_id for item in permissions.list(name)] == ["proj_c", "proj_a"]
    with pytest.raises(openai.NotFoundError):
        permissions.delete(made[1].id, fine_tuned_model_checkpoint=name)
    with pytest.raises(openai.NotFoundError):
        list(permissions.create("ft:smollm2-135m:personal::missing1", project_ids=["p"]))


def test_an_adapter_that_says_too_little_is_no_missing_model(tmp_path):
    """It is there, and what is wrong with it is said; a folder that is not there is a missing model."""
    (tmp_path / "tuned").mkdir()
    (tmp_path / "tuned" / "adapter_config.json").write_text("{}")
    aliases = {"broken": str(tmp_path / "tuned"), "absent": str(tmp_path / "gone")}
    settings = Settings(home=tmp_path, cache=tmp_path, engine="simulated", allow_local_paths=True, aliases=aliases)
    with in_process.client(settings) as client:
        for call in (
            client.models.retrieve,
            lambda name: client.chat.completions.create(model=name, messages=[{"role": "user", "content": "x"}]),
        ):
            with pytest.raises(openai.BadRequestError, match="names no base model") as refused:
                call("broken")
            assert (refused.value.code, refused.value.param) == ("model_not_supported", "model")
            with pytest.raises(openai.NotFoundError, match="There is no model at") as missing:
                call("absent")
            assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
