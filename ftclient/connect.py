"""From a key and an address to the official client, and to the host behind it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload
from urllib.parse import urlsplit

from ftclient import hosts
from ftclient.errors import AuthError
from ftclient.home import default_home
from ftclient.hosts import Host
from ftclient.wire import missing_key

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI

_Made_co = TypeVar("_Made_co", covariant=True)
_Made = TypeVar("_Made")


class _ForOpenAI(Protocol[_Made_co]):
    def __call__(
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        home: Path | str | None = None,
        **options: Any,
    ) -> _Made_co: ...


class OpenAIAccess:
    """`Client.openai(...)` makes a client for OpenAI; `client.openai` is the official client underneath."""

    @overload
    def __get__(self, client: None, owner: Callable[..., _Made]) -> _ForOpenAI[_Made]: ...
    @overload
    def __get__(self, client: object, owner: Callable[..., _Made]) -> OpenAI: ...
    def __get__(self, client: Any, owner: Callable[..., _Made]) -> _ForOpenAI[_Made] | OpenAI:
        """Return the one or the other."""
        if client is not None:
            found: OpenAI = client._official  # noqa: SLF001 - one class in two parts
            return found

        def make(
            *, api_key: str | None = None, base_url: str | None = None, home: Path | str | None = None, **options: Any
        ) -> _Made:
            """Connect to OpenAI; options go on to `openai.OpenAI`."""
            made = official(hosts.OPENAI, api_key=api_key, base_url=base_url, **options)
            return owner(made, host=hosts.OPENAI, home=home)

        return make


_NO_KEY = "none"
"""What is sent to servers of this project that ask for no key; the official client insists on one."""


_IN_PROCESS = "http://localhost/v1"
"""The address of `Client.local()`, where nothing listens."""


def official(host: Host, *, api_key: str | None = None, base_url: str | None = None, **options: Any) -> OpenAI:
    """Return the official client for `host`.

    Args:
        host: Gives the address and the name of the key's environment variable, where they are not given.
        api_key: None takes it from the environment.
        base_url: None takes OPENAI_BASE_URL for OpenAI, else the host's own.
        options: Passed on to `openai.OpenAI`.

    Raises:
        AuthError: There is no key.
    """
    from openai import OpenAI

    key = api_key or os.environ.get(host.key_env) or (_NO_KEY if host.is_local else None)
    if not key:
        raise AuthError(missing_key(host))
    return OpenAI(api_key=key, base_url=base_url or _address(host), **options)


def azure(endpoint: str, *, api_key: str | None = None, api_version: str | None = None, **options: Any) -> OpenAI:
    """Return the official client for an Azure endpoint, classic or of a project.

    Raises:
        AuthError: There is no key.
    """
    from openai import AzureOpenAI, OpenAI

    key = api_key or os.environ.get(hosts.AZURE.key_env)
    if not key:
        raise AuthError(missing_key(hosts.AZURE))
    if "/openai/v1" in endpoint:
        return OpenAI(api_key=key, base_url=endpoint, **options)
    if "/api/projects/" in endpoint:
        return OpenAI(api_key=key, base_url=endpoint.rstrip("/") + "/openai/v1/", **options)
    # The version that Azure's own guide to fine-tuning names (2026).
    version = api_version or os.environ.get("OPENAI_API_VERSION") or "2025-04-01-preview"
    return AzureOpenAI(api_key=key, azure_endpoint=endpoint, api_version=version, **options)


def asynchronous(client: OpenAI) -> AsyncOpenAI | None:
    """Return an asynchronous official client that asks as this one does.

    None where nobody but the client itself can do that: it has HTTP, or a way to its key, of its own.
    """
    from openai import AsyncAzureOpenAI, AsyncOpenAI, AzureOpenAI, OpenAI

    if type(client) not in (OpenAI, AzureOpenAI) or _has_own_ways(client):
        return None
    same: dict[str, Any] = {
        "api_key": client.api_key,
        "timeout": client.timeout,
        "max_retries": client.max_retries,
        "default_headers": client._custom_headers,  # noqa: SLF001 - they are nowhere else
        "default_query": client._custom_query,  # noqa: SLF001
    }
    if isinstance(client, AzureOpenAI):
        version = client._api_version  # noqa: SLF001
        return AsyncAzureOpenAI(base_url=str(client.base_url), api_version=version, **same)
    return AsyncOpenAI(base_url=client.base_url, organization=client.organization, project=client.project, **same)


_KEY_SOURCES = (
    *("_api_key_provider", "workload_identity", "_provider"),
    *("_azure_ad_token", "_azure_ad_token_provider"),
)
"""Where an official client may have its key from, other than the key itself."""


def _has_own_ways(client: OpenAI) -> bool:
    """Whether a client has more than a key: HTTP of its own, as over the server in this process, or tokens."""
    from openai._base_client import SyncHttpxClientWrapper

    http = client._client  # noqa: SLF001 - nothing else tells
    has_tokens = any(getattr(client, name, None) is not None for name in _KEY_SOURCES)
    return has_tokens or not client.api_key or not isinstance(http, SyncHttpxClientWrapper)


def azure_host(client: OpenAI) -> Host:
    """Return what the Azure endpoint behind an official client can do, also under a domain of the user's own."""
    return hosts.AZURE_PROJECT if "/api/projects/" in str(client.base_url) else hosts.AZURE


def azure_endpoint() -> str:
    """Return the address of the user's Azure resource or project.

    Raises:
        ValueError: AZURE_OPENAI_ENDPOINT is not set.
    """
    endpoint = os.environ.get("AZURE_OPENAI_ENDPOINT")
    if not endpoint:
        raise ValueError("Set AZURE_OPENAI_ENDPOINT to the address of your Azure resource or project.")
    return endpoint


def server_url(url: str) -> str:
    """Return the address of an API with the path that everybody forgets: `http://gpu:8000` -> `http://gpu:8000/v1`.

    Raises:
        ValueError: This is no http address.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is no address of a server; it should look like http://127.0.0.1:8000/v1")
    return url if parts.path.strip("/") else url.rstrip("/") + "/v1"


def command_for(base_url: str, home: Path) -> str:
    """Return how the command line reaches the backend at an address, with a home: `ftclient --backend openai`."""
    options = ["--backend", _backend_name(base_url)]
    if home != default_home():
        options += ["--home", str(home)]
    return shlex.join(["ftclient", *options])


def _backend_name(base_url: str) -> str:
    """Return the name of the backend at an address as it is given to the command line; the address, if it has none."""
    address = base_url.rstrip("/")
    if address == _IN_PROCESS:
        return hosts.LOCAL.name
    for host in hosts.KNOWN:
        if (_address(host) or "").rstrip("/") == address:
            return host.name
    is_classic = hosts.host_at(base_url) is hosts.AZURE and not address.endswith("/v1")
    return hosts.AZURE.name if is_classic else base_url


def host_of(client: OpenAI) -> Host:
    """Return the host that an official client made elsewhere talks to."""
    return hosts.host_at(str(client.base_url))


def _address(host: Host) -> str | None:
    moved = os.environ.get("OPENAI_BASE_URL") if host is hosts.OPENAI else None
    return moved or host.base_url
