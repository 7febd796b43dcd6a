"""The tools that guard style, types and direction run with the tests, so that one command checks everything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*command: str) -> None:
    """Run a tool in the repository and show what it printed when it finds something."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_the_linter_finds_nothing() -> None:
    run(sys.executable, "-m", "ruff", "check", ".")


def test_everything_is_formatted() -> None:
    run(sys.executable, "-m", "ruff", "format", "--check", ".")


@pytest.mark.slow
@pytest.mark.parametrize("package", ["ftclient", "local_backend"])
def test_types_are_sound(package: str) -> None:
    run(sys.executable, "-m", "mypy", "-p", package)


def test_imports_go_one_way() -> None:
    run(str(Path(sys.executable).with_name("lint-imports")))


@pytest.mark.parametrize("package", ["ftclient", "local_backend"])
def test_importing_the_package_loads_no_heavy_module(package: str) -> None:
    """torch, transformers and openai are loaded by first use, never by `import`."""
    code = (
        f"import sys, {package}\n"
        "heavy = {'torch', 'transformers', 'openai', 'tiktoken', 'pandas', 'polars'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {sorted(heavy)}' if heavy else 0)"
    )
    run(sys.executable, "-c", code)
