"""Names: what users write becomes one canonical name, or an error that says what is known."""

import json

import pytest

from local_backend.models import CATALOGUE, reference, resolve
from local_backend.models.names import hub_name
from local_backend.settings import Settings
from local_backend.task import UserError


def settings(tmp_path, **options):
    return Settings(home=tmp_path, cache=tmp_path, **options)


def test_short_names_and_hub_ids_of_the_catalogue_mean_the_same(tmp_path):
    for name, model in CATALOGUE.items():
        assert resolve(name, settings=settings(tmp_path)) == name
        assert resolve(model.hub_id, settings=settings(tmp_path)) == name
        assert resolve(f"{model.hub_id}@{model.revision}", settings=settings(tmp_path)) == name
        assert hub_name(name).repo == model.hub_id
        assert len(hub_name(name).revision) == 40


def test_another_revision_is_another_model(tmp_path):
    name = resolve("Qwen/Qwen3-0.6B@refs/pr/3", settings=settings(tmp_path))
    assert name == "Qwen/Qwen3-0.6B@refs/pr/3"
    assert (hub_name(name).repo, hub_name(name).revision) == ("Qwen/Qwen3-0.6B", "refs/pr/3")
    assert hub_name("someone/model").revision is None


def test_aliases_lead_to_their_target_even_over_known_names(tmp_path):
    aliases = {"gpt-4o-mini": "house", "house": "smollm2-135m", "qwen3-0.6b": "someone/fork"}
    aliased = settings(tmp_path, aliases=aliases)
    assert resolve("gpt-4o-mini", settings=aliased) == "smollm2-135m"
    assert resolve("qwen3-0.6b", settings=aliased) == "someone/fork"


def test_aliases_in_a_circle_are_an_error(tmp_path):
    with pytest.raises(UserError, match="circle"):
        resolve("a", settings=settings(tmp_path, aliases={"a": "b", "b": "a"}))


@pytest.mark.parametrize(
    "name", ["smollm2-135", "gpt-4o", "", "a/b/c", "../x/y@z/..", "owner/..", "a/b@c/../d", "a b/c"]
)
def test_unknown_names_say_what_is_known(name, tmp_path):
    with pytest.raises(UserError) as caught:
        resolve(name, settings=settings(tmp_path))
    assert (caught.value.param, caught.value.code) == ("model", "model_not_found")


def test_a_near_miss_gets_a_hint(tmp_path):
    with pytest.raises(UserError, match="Did you mean smollm2-135m"):
        resolve("smollm2-135", settings=settings(tmp_path))


def test_paths_are_refused_unless_allowed(tmp_path):
    with pytest.raises(UserError, match="allow_local_paths"):
        resolve(str(tmp_path), settings=settings(tmp_path))
    allowed = settings(tmp_path, allow_local_paths=True)
    assert resolve(str(tmp_path / "." / "x" / ".."), settings=allowed) == str(tmp_path.resolve())
    with pytest.raises(UserError, match="no model"):
        resolve(str(tmp_path / "missing"), settings=allowed)


def test_a_folder_with_an_adapter_stands_for_it_on_its_base_model(tmp_path):
    known = CATALOGUE["smollm2-135m"]
    allowed = settings(tmp_path, allow_local_paths=True)
    config = {"base_model_name_or_path": known.hub_id, "revision": known.revision}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    found = reference(str(tmp_path), settings=allowed)
    assert (found.base, found.tuned_dir) == ("smollm2-135m", tmp_path.resolve())
    assert reference("smollm2-135m", settings=allowed).tuned_dir is None
    (tmp_path / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": "who/knows", "revision": None})
    )
    assert reference(str(tmp_path), settings=allowed).base == "who/knows"
    with pytest.raises(UserError, match="allow_local_paths"):
        reference(str(tmp_path), settings=settings(tmp_path))


@pytest.mark.parametrize("content", ["{}", '{"base_model_name_or_path": null}', "[1]", "{", "\x80"])
def test_an_adapter_that_names_no_base_model_is_refused_with_words(tmp_path, content):
    (tmp_path / "adapter_config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=f"adapter_config.json in {tmp_path.name}") as caught:
        reference(str(tmp_path), settings=settings(tmp_path, allow_local_paths=True))
    assert caught.value.code == "model_not_supported"
