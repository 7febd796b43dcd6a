"""Every example runs to its end, as a user would start it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.serving import ROOT, run_program, simulated_server

EXAMPLES = ROOT / "examples"
TUNED = r"ft:smollm2-135m:personal:\w*:\w{8}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with simulated_server(tmp_path_factory.mktemp("server")) as url:
        yield url


def run(name: str, *arguments: str, home: Path, **environment: str) -> str:
    return run_program(sys.executable, str(EXAMPLES / name), *arguments, home=home, **environment)


@pytest.mark.slow
def test_01_trains_the_real_model_here(tmp_path: Path) -> None:
    printed = run("01_train_locally.py", home=tmp_path)
    assert re.search(r"Tuned model: ft:smollm2-135m:personal:first:\w{8}", printed)
    assert re.search(r"It answers: \S", printed)


def test_02_trains_the_same_code_at_another_place(server: str, tmp_path: Path) -> None:
    printed = run("02_swap_backends.py", server, home=tmp_path)
    assert re.search(f"Tuned model: {TUNED}", printed)
    assert re.search(r'It answers: \{"queue":', printed)


def test_03_needs_only_the_official_client(server: str, tmp_path: Path) -> None:
    printed = run("03_official_client_only.py", home=tmp_path, OPENAI_BASE_URL=server, OPENAI_API_KEY="none")
    events = re.findall(r"^Step (\d)/6: training loss=", printed, flags=re.MULTILINE)
    assert events == ["1", "2", "3", "4", "5", "6"]  # 12 examples, twice, by 4; each once and in order
    assert re.search(r"^step,train_loss,", printed, flags=re.MULTILINE)
    assert re.search(rf'^{TUNED} answers: \{{"queue":', printed, flags=re.MULTILINE)


def test_04_tests_an_application(tmp_path: Path) -> None:
    quiet = ["-q", "-p", "no:cacheprovider", "-o", "asyncio_default_fixture_loop_scope=function"]
    printed = run_program(sys.executable, "-m", "pytest", *quiet, "examples/04_test_double", home=tmp_path)
    assert "4 passed" in printed


def test_05_compares_base_and_tuned_model(server: str, tmp_path: Path) -> None:
    printed = run("05_tune_and_compare.py", home=tmp_path, FTCLIENT_BACKEND=server)
    assert "30 held-out questions" in printed
    assert re.search(r"smollm2-135m\s+│\s+0%\s+│\s+0%", printed)
    assert re.search(r"ft:smollm2-135m:personal:tickets:\S+\s+│\s+\d+%\s+│\s+100%", printed)


def test_06_says_what_it_costs_without_a_host(tmp_path: Path) -> None:
    printed = run("06_what_it_costs.py", home=tmp_path, OPENAI_BASE_URL="http://127.0.0.1:9/v1")
    assert "tokens x $5.00 a million" in printed
    assert re.search(r"In use: \$\d+\.\d\d a month, or \$\d+\.\d\d untuned\. Training has paid for itself", printed)
    assert re.search(r"^local +smollm2-135m +\$0", printed, flags=re.MULTILINE)


def test_14_compares_all_approaches(server: str, tmp_path: Path) -> None:
    """On the simulated backend: that the verdicts are right is what `python -m tests.benchmarks compare` shows."""
    printed = run("14_is_tuning_the_answer/compare.py", "handbook", home=tmp_path, FTCLIENT_BACKEND=server)
    assert "Asking: fine-tuning (LoRA)" in printed
    assert "Retrieval: 24 passages of 7 documents" in printed
    assert "36 test questions" in printed


def test_no_example_is_left_out() -> None:
    """Examples from 10 on have their tests beside what they show."""
    numbers = {path.name[:2] for path in EXAMPLES.glob("0[0-9]_*")}
    tested = {name[5:7] for name in globals() if name.startswith("test_0")}
    assert numbers == tested
