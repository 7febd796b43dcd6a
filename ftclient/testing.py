"""A pytest plugin: the fixture `ft_client` is a Client whose backend the command line chooses.

    pytest                        simulated: the whole life of jobs in seconds, no weights, no network, no cost
    pytest --ft-backend=local     real training on this machine
    pytest --ft-backend=hosted    OpenAI itself: costs money, and needs OPENAI_API_KEY

The simulated and the local backend keep everything in the test's own temporary folder and take OpenAI's model names
(see `MODELS`), so that code under test runs unchanged.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ftclient import Client

BACKENDS = ("simulated", "local", "hosted")

MODELS: Mapping[str, str] = MappingProxyType(
    dict.fromkeys(
        (
            "gpt-4.1",
            "gpt-4.1-2025-04-14",
            "gpt-4.1-mini",
            "gpt-4.1-mini-2025-04-14",
            "gpt-4.1-nano",
            "gpt-4.1-nano-2025-04-14",
            "gpt-4o",
            "gpt-4o-2024-08-06",
            "gpt-4o-mini",
            "gpt-4o-mini-2024-07-18",
            "gpt-3.5-turbo",
        ),
        "smollm2-135m",
    )
)
"""Hosted names of models that can be tuned, and what stands in for them away from the host."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--ft-backend`."""
    group = parser.getgroup("ftclient")
    group.addoption(
        "--ft-backend",
        choices=BACKENDS,
        default="simulated",
        help="what the fixture ft_client talks to (default: %(default)s)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse the hosted backend without a key at once, not test by test."""
    if config.getoption("--ft-backend") == "hosted" and not os.environ.get("OPENAI_API_KEY"):
        where = " in CI" if os.environ.get("CI") else ""
        raise pytest.UsageError(
            f"--ft-backend=hosted is refused{where} without OPENAI_API_KEY: set it, or use --ft-backend=simulated."
        )


@pytest.fixture
def ft_backend(request: pytest.FixtureRequest) -> str:
    """The name of the chosen backend: `simulated`, `local` or `hosted`."""
    return str(request.config.getoption("--ft-backend"))


@pytest.fixture
def ft_client(ft_backend: str, tmp_path: Path) -> Iterator[Client]:
    """A client of the chosen backend; away from the host each test has an empty home of its own."""
    from ftclient import Client

    if ft_backend == "hosted":
        client = Client.openai()
    else:
        client = Client.local(
            home=tmp_path / "ftclient",
            engine="torch" if ft_backend == "local" else "simulated",
            runner="thread",
            aliases=MODELS,
        )
    try:
        yield client
    finally:
        client.openai.close()
