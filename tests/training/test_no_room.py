"""No room on the disk, for real: files may not grow beyond a limit of the system. Nothing half-written stays."""

import json
import os
import resource

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from local_backend.engine import checkpoint, loop, pace
from local_backend.engine.training import prepare
from local_backend.room import is_no_room
from local_backend.task import JobError, Signal
from tests.training.tiny import Recording, task_of, tiny_folder, words_jsonl

FULL = {"tune": {"type": "full"}, "learning_rate": 1e-3}
HEAD = {"tune": {"type": "head"}, "learning_rate": 1e-3}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_folder(tmp_path_factory.mktemp("base"))


@pytest.fixture
def training(tmp_path):
    return words_jsonl(tmp_path)


def error_with(limit_bytes, work):
    """Do some work in a forked process that can write no file beyond a limit; return the code of its JobError."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
            work()
            told = {"code": None}
        except JobError as error:
            told = {"code": error.code, "message": error.message}
        except BaseException as error:  # noqa: BLE001 - it is told to the parent, which judges it
            told = {"code": repr(error)}
        os.write(writer, json.dumps(told).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        told = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    return json.loads(told)


def left_in(folder):
    return sorted(path.name for path in folder.rglob("*") if path.name.startswith(".") or path.suffix == ".safetensors")


@pytest.mark.filterwarnings("ignore:.*fork.*")
@pytest.mark.parametrize(
    ("local", "what"), [({}, "checkpoints/step-3"), (FULL, "checkpoints/step-3"), (HEAD, "frozen")], ids=repr
)
def test_a_full_disk_is_told_and_leaves_nothing_half_written(tmp_path, base, training, local, what):
    """An adapter, all weights, and what frozen blocks say, which is written through the memory."""
    torch.set_num_threads(1)
    task = task_of(tmp_path / "job", training, local=local)
    told = error_with(10_000, lambda: loop.train(prepare(task, base=base), Recording()))
    assert told["code"] == "disk_full", told
    assert f"{what} could not be written. Free some space." in told["message"]
    assert left_in(task.work_dir) == []


@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_the_last_good_state_stays_and_is_gone_on_from(tmp_path, base, training, monkeypatch):
    """Adapters fit, resume points, three times as large, do not: the run ends after its first epoch."""
    monkeypatch.setattr(pace, "RESUME_EVERY_S", 0.0)
    expected = loop.train(prepare(task_of(tmp_path / "whole", training), base=base), Recording())
    size = (expected.model_dir / "adapter_model.safetensors").stat().st_size
    task = task_of(tmp_path / "job", training)
    loop.train(prepare(task, base=base), Recording({2: Signal.PAUSE}))
    told = error_with(int(1.5 * size), lambda: loop.train(prepare(task, base=base), Recording()))
    assert told["code"] == "disk_full", told
    assert "resume/step-00000003" in told["message"]
    assert [path.name for path in (task.work_dir / "resume").iterdir()] == ["step-00000002"]
    assert (task.model_dir(3) / "adapter_config.json").is_file()
    outcome = loop.train(prepare(task, base=base), Recording())
    files = [found.model_dir / "adapter_model.safetensors" for found in (outcome, expected)]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_what_safetensors_and_the_system_say_is_understood(tmp_path):
    def write(save):
        def work():
            try:
                save()
            except (SafetensorError, OSError) as error:
                raise JobError(type(error).__name__, str(is_no_room(error))) from error

        return error_with(1000, work)

    tensors = {"a": torch.zeros(1000)}
    assert write(lambda: save_file(tensors, tmp_path / "a")) == {"code": "SafetensorError", "message": "True"}
    assert write(lambda: (tmp_path / "b").write_bytes(b"0" * 4000)) == {"code": "OSError", "message": "True"}
    assert write(lambda: (tmp_path / "none" / "c").write_bytes(b"")) == {
        "code": "FileNotFoundError",
        "message": "False",
    }
    assert not is_no_room(SafetensorError("I/O error: No such file or directory (os error 2)"))


class Cancelling(Recording):
    """The user has cancelled before training begins."""

    def signal(self):
        return Signal.CANCEL


def test_a_cancel_while_frozen_blocks_are_computed_leaves_nothing(tmp_path, base, training, monkeypatch):
    monkeypatch.setattr(pace, "SIGNAL_EVERY_S", -1.0)
    task = task_of(tmp_path / "job", training, local=HEAD)
    outcome = loop.train(prepare(task, base=base), Cancelling())
    assert outcome.kind == "cancelled"
    assert list(task.work_dir.iterdir()) == []


def test_any_exception_leaves_nothing_half_written(tmp_path):

    def write(error):
        with checkpoint.whole_folder(tmp_path / "job" / "target") as new:
            (new / "file").write_bytes(b"1")
            raise error

    for error in (KeyboardInterrupt, ValueError, pace.CancelledError):
        with pytest.raises(error):
            write(error)
        assert list((tmp_path / "job").iterdir()) == []


def test_a_folder_that_is_written_again_is_whole_or_as_it_was(tmp_path):
    """A resumed run writes checkpoints again that may be in use by then."""
    target = tmp_path / "step-1"
    for text in ("old", "new"):
        with checkpoint.whole_folder(target) as new:
            (new / text).touch()
            assert text == "old" or [path.name for path in target.iterdir()] == ["old"]
    assert [path.name for path in target.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [target]


def test_a_half_written_checkpoint_is_no_source_of_another(tmp_path, base, training):
    """A power cut leaves files of the right name with nothing in them."""
    expected = loop.train(prepare(task_of(tmp_path / "whole", training, local=HEAD), base=base), Recording())
    task = task_of(tmp_path / "job", training, local=HEAD)
    half = task.work_dir / "checkpoints" / ".step-2.new"
    half.mkdir(parents=True)
    names = sorted(path.name for path in expected.model_dir.glob("*.safetensors"))
    assert len(names) == 2
    for name in names:
        (half / name).write_bytes(b"\0" * (expected.model_dir / name).stat().st_size)
    outcome = loop.train(prepare(task, base=base), Recording())
    for name in names:
        assert (outcome.model_dir / name).read_bytes() == (expected.model_dir / name).read_bytes()


def test_new_folders_are_durable(tmp_path, monkeypatch):
    """The name of a folder is in the folder above it, which has to be brought to disk, too."""
    synced, fsync = [], os.fsync

    def watched(descriptor):
        synced.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    with checkpoint.whole_folder(tmp_path / "job" / "checkpoints" / "step-1"):
        pass
    for folder in (tmp_path, tmp_path / "job", tmp_path / "job" / "checkpoints"):
        assert folder.stat().st_ino in synced
