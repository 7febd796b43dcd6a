"""A host whose models answer what a test wants, an account at another, and what was saved of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ftclient import Client, hosts
from ftclient.keep.download import save
from ftclient.keep.folder import KeepFolder
from ftclient.keep.inventory import inventory
from tests.e2e.serving import simulated_server
from tests.faults.proxy import FaultProxy
from tests.unit.evaluate.conftest import chat_host, hosted
from tests.unit.keep.accounts import KEY, Account

__all__ = ["chat_host", "hosted"]


@pytest.fixture
def folder(tmp_path: Path) -> KeepFolder:
    return KeepFolder(tmp_path / "kept")


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory):
    from ftclient.jobs import follow

    pace, follow.Pace.after = follow.Pace.after, lambda _self, *, news: 0.05  # noqa: ARG005 - as the host answers
    try:
        with simulated_server(tmp_path_factory.mktemp("account")) as url:
            made = Account(url, tmp_path_factory.mktemp("home"))
            yield made
            made.client.close()
    finally:
        follow.Pace.after = pace


@pytest.fixture(scope="module")
def saved(account: Account, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = KeepFolder(tmp_path_factory.mktemp("saved") / "kept")
    save(account.client, folder, inventory(account.client, ask=True))
    return folder.path


@pytest.fixture
def kept(saved: Path, tmp_path: Path) -> KeepFolder:
    """A copy of what was saved, to change."""
    return KeepFolder(Path(shutil.copytree(saved, tmp_path / "kept")))


@pytest.fixture
def through(account: Account, tmp_path: Path):
    """A client of the account through a proxy, and the proxy."""
    with (
        FaultProxy(account.url.removesuffix("/v1")) as proxy,
        Client.at(proxy.url, host=hosts.OPENAI, api_key=KEY, home=tmp_path / "home") as client,
    ):
        client.openai.max_retries = 0
        yield client, proxy
