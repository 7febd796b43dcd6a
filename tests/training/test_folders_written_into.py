"""Models that were read from a folder of the user's stay as they were read, whatever is written into the folder."""

import shutil
import sys
from pathlib import Path

import pytest

from local_backend.engine.classify.body import load_body
from local_backend.engine.classify.routing import training_kind
from local_backend.engine.generation.load import load
from local_backend.engine.network import load_network
from local_backend.models import cache
from local_backend.settings import Settings
from local_backend.task import ModelRef
from tests.training.chatty import write_tiny
from tests.training.tiny_classifier import CPU, write_encoder


def for_chat(folder):
    return load(folder, tokenizer_dir=folder).model


def for_training(folder):
    return load_network(folder, CPU).model


def for_classification(folder):
    kind = training_kind(ModelRef(base=str(folder)), folder, task="classify")
    return load_body(folder, kind, machine=CPU).model


WAYS = pytest.mark.parametrize(
    ("loaded", "write"),
    [(for_chat, write_tiny), (for_training, write_tiny), (for_classification, write_encoder)],
    ids=["chat", "training", "classification"],
)


def state_of(model):
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


@WAYS
def test_weights_that_are_copied_over_change_no_model_in_memory(tmp_path, loaded, write):
    folder, other = write(tmp_path / "model"), write(tmp_path / "other", seed=5)
    model = loaded(folder)
    before = state_of(model)
    shutil.copyfile(other / "model.safetensors", folder / "model.safetensors")
    assert [name for name, tensor in model.state_dict().items() if not tensor.equal(before[name])] == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what a process has mapped")
@WAYS
def test_only_weights_of_the_cache_stay_mapped(tmp_path, loaded, write):
    """A file that gets shorter while it is mapped ends the process; the cache's files never do."""
    folder, settings = write(tmp_path / "model"), Settings(cache=tmp_path / "cache")
    source = cache.Source(name="some/model", origin="hub", revision="0", sha256="0" * 64, size_bytes=1)
    with cache.building(source.name, settings=settings):
        cache.publish(Path(shutil.copytree(folder, tmp_path / "built")), source=source, settings=settings)
    stored = cache.folder(source.name, settings=settings)
    copied_out = Path(shutil.copytree(stored, tmp_path / "elsewhere" / stored.name))
    models = [loaded(one) for one in (folder, stored, copied_out)]
    maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    assert [str(one / "model.safetensors") in maps for one in (folder, stored, copied_out)] == [False, True, False]
    assert all(models)
