"""What the README shows works, and its Japanese twin shows the same."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.serving import ROOT, run_program, simulated_server

README, TWIN = ROOT / "README.md", ROOT / "README.ja.md"
FTCLIENT = str(Path(sys.executable).with_name("ftclient"))


def commands(readme: Path) -> list[str]:
    """Return the indented command lines, without the words behind them."""
    rest = re.sub(r"```python.*?```", "", readme.read_text("utf-8"), flags=re.DOTALL)
    lines = re.findall(r"^    (\S.*)$", rest, flags=re.MULTILINE)
    return [re.split(r" {2,}", line)[0] for line in lines]


def python_blocks(readme: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", readme.read_text("utf-8"), flags=re.DOTALL)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with simulated_server(tmp_path_factory.mktemp("server")) as url:
        yield url


def test_both_readmes_show_the_same_commands_and_code() -> None:
    assert commands(README) == commands(TWIN)
    without_comments = [[re.sub(r"\s*#.*", "", block) for block in python_blocks(each)] for each in (README, TWIN)]
    assert without_comments[0] == without_comments[1]


def test_the_two_commands_are_there() -> None:
    assert 'python -m pip install -e ".[local]" && ftclient demo' in commands(README)
    assert 'python -m pip install -e ".[local,test]" && pytest' in commands(README)


@pytest.mark.parametrize(
    "readme", [README, TWIN, ROOT / "tests" / "README.md"], ids=lambda path: str(path.relative_to(ROOT))
)
def test_links_lead_somewhere(readme: Path) -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", readme.read_text("utf-8"))
    missing = [link for link in links if not (readme.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("readme", [README, TWIN], ids=lambda path: str(path.relative_to(ROOT)))
def test_the_map_names_what_is_there(readme: Path) -> None:
    cells = re.findall(r"^\| (`[^|]+`) \|", readme.read_text("utf-8").split("FTCLIENT_HOME")[0], flags=re.MULTILINE)
    assert len(cells) == 12
    for cell in cells:
        first, *others = re.findall(r"`([^`]+)`", cell)
        for name in (first, *(f"{Path(first).parent}/{other}" for other in others)):
            assert (ROOT / name).exists(), name


def test_the_ten_lines_run(server: str, tmp_path: Path) -> None:
    code = python_blocks(README)[0]
    printed = run_program(sys.executable, "-c", code, home=tmp_path, FTCLIENT_BACKEND=server)
    assert re.search(r'^\{"queue":', printed, flags=re.MULTILINE)
    assert "exact_match=" in printed


def test_the_test_with_the_fixture_passes(tmp_path: Path) -> None:
    file = tmp_path / "test_readme_block.py"
    file.write_text(python_blocks(README)[1], encoding="utf-8")
    printed = run_program(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file), home=tmp_path)
    assert "1 passed" in printed


@pytest.mark.slow
def test_the_command_lines_run(server: str, tmp_path: Path) -> None:
    """One after the other, as a reader would, with the names that the former ones printed."""

    def run(line: str, *more: str, expect: int = 0) -> str:
        command = [FTCLIENT, *shlex.split(line)[1:], "--backend", server, *more]
        return run_program(*command, home=tmp_path, expect=expect)

    shown = {line.split()[1]: line for line in commands(README) if line.startswith("ftclient ")}
    assert set(shown) == {
        *("serve", "check", "report", "plan", "train", "jobs", "watch"),
        *("chat", "evaluate", "compare", "export", "doctor"),
    }
    assert "json_syntax" in run(shown["check"], expect=1)
    assert "300 examples" in run(shown["report"])
    assert "no charge" in run(shown["plan"])
    job = json.loads(run(shown["train"], "--json", "--yes"))
    assert job["id"] in run(shown["jobs"])
    watched = run(shown["watch"].replace("ftjob-...", job["id"]))
    model = re.search(r"ft:smollm2-135m:personal::\w{8}", watched)
    assert model
    assert '{"queue":' in run(shown["chat"].replace("ft:smollm2-135m:personal::...", model.group()))
    assert "36 held-out questions" in run(shown["evaluate"].replace("ft:smollm2-135m:personal::...", model.group()))
    assert "Retrieval: 24 passages of 7 documents" in run(shown["compare"])
    assert run(shown["doctor"])
    refused = run(shown["export"].replace("ft:smollm2-135m:personal::...", model.group()), expect=3)  # no weights here
    assert not refused
