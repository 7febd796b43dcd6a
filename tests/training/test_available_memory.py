"""How much memory a job may take: the machine's, or less where a container says so."""

import os

import pytest
import torch

from local_backend.engine import memory

CPU = torch.device("cpu")


def container(folder, files):
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="ascii")
    return folder


def test_it_is_no_more_than_the_machine_has():
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 1 << 20 < memory.available_bytes(CPU) <= physical


@pytest.mark.parametrize(
    "files",
    [
        {"memory.max": "1000000\n", "memory.current": "700000\n", "memory.stat": "anon 5\ninactive_file 100000\n"},
        {
            "memory/memory.limit_in_bytes": "1000000\n",
            "memory/memory.usage_in_bytes": "700000\n",
            "memory/memory.stat": "inactive_file 7\ntotal_inactive_file 100000\n",
        },
    ],
    ids=["version 2", "version 1"],
)
def test_a_containers_limit_counts_and_files_in_its_memory_do_not(files, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_CGROUP", container(tmp_path, files))
    assert memory.available_bytes(CPU) == 400_000


@pytest.mark.parametrize("files", [{}, {"memory.max": "max\n", "memory.current": "700000\n"}])
def test_no_limit_is_the_machine_itself(files, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_CGROUP", container(tmp_path, files))
    assert memory.available_bytes(CPU) > 1 << 20


def test_a_container_that_is_full_has_nothing_left(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_CGROUP", container(tmp_path, {"memory.max": "10", "memory.current": "20"}))
    assert memory.available_bytes(CPU) == 0
