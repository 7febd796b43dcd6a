"""How a client comes by its host: the constructors, and closing what they opened."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from typing_extensions import Self

from ftclient import connect, hosts
from ftclient.cost.book import PriceBook, price_book
from ftclient.errors import MissingDependencyError
from ftclient.home import default_home
from ftclient.hosts import Host
from ftclient.jobs.journal import Journal

if TYPE_CHECKING:
    from openai import OpenAI


class Connection:
    """One host, reached through the official client.

    Args:
        openai: An official client of your own.
        host: What the host can do and what it charges; None recognises it by the client's address.
        home: Folder of what this machine must not forget; None is FTCLIENT_HOME or the platform's data folder.
        prices: What hosts charge, or a file of your own prices; None is this package's, and FTCLIENT_PRICES' over them.
    """

    openai = connect.OpenAIAccess()

    def __init__(
        self,
        openai: OpenAI,
        *,
        host: Host | None = None,
        home: Path | str | None = None,
        prices: PriceBook | Path | str | None = None,
    ) -> None:
        self._official = openai
        self._prices = PriceBook.read(prices) if isinstance(prices, Path | str) else prices
        self.host = host or connect.host_of(openai)
        self.home = Path(home) if home is not None else default_home()
        self._journal = Journal(self.home)

    @property
    def prices(self) -> PriceBook:
        """What hosts charge, as plans count it; `client.prices = PriceBook.read(path)` lays your own over them.

        Raises:
            DataError: The file that FTCLIENT_PRICES names cannot be used.
        """
        if self._prices is None:
            self._prices = price_book()
        return self._prices

    @prices.setter
    def prices(self, book: PriceBook) -> None:
        self._prices = book

    @classmethod
    def azure(
        cls,
        endpoint: str,
        *,
        api_key: str | None = None,
        api_version: str | None = None,
        home: Path | str | None = None,
        **options: Any,
    ) -> Self:
        """Connect to Azure OpenAI: a classic endpoint, or that of a project.

        Raises:
            AuthError: No key was given, and AZURE_OPENAI_API_KEY is not set.
        """
        official = connect.azure(endpoint, api_key=api_key, api_version=api_version, **options)
        return cls(official, host=connect.azure_host(official), home=home)

    @classmethod
    def at(
        cls,
        url: str,
        *,
        api_key: str | None = None,
        host: Host | None = None,
        home: Path | str | None = None,
        **options: Any,
    ) -> Self:
        """Connect to any server that speaks the API.

        Args:
            url: Its address. Plain http is taken for a server started by `ftclient serve`.
            api_key: None takes the host's environment variable (FTCLIENT_API_KEY for servers of your own).
            host: What the server can do, where its address does not tell (see `ftclient.hosts`).
            home: As for the constructor.
            options: Passed on to `openai.OpenAI`.

        Raises:
            AuthError: The host needs a key, and there is none.
            ValueError: This is no http address.
        """
        address = connect.server_url(url)
        host = host or hosts.host_at(address)
        return cls(connect.official(host, api_key=api_key, base_url=address, **options), host=host, home=home)

    @classmethod
    def local(
        cls,
        *,
        home: Path | str | None = None,
        engine: Literal["torch", "simulated"] = "torch",
        aliases: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> Self:
        """Train and answer on this machine, in this process; jobs go on in a process of their own.

        Args:
            home: Where jobs, files and models are kept.
            engine: `torch`, or `simulated`: the same jobs without training, for tests.
            aliases: Further names of models, such as {"gpt-4o-mini": "smollm2-135m"}.
            settings: Further fields of `local_backend.settings.Settings`.

        Raises:
            MissingDependencyError: The extra `local` is not installed; the text is the command.
        """
        try:
            from local_backend import in_process
        except ImportError as error:
            if (error.name or "").startswith(("local_backend", "ftclient")):
                raise  # a fault of ours, not a missing package
            raise MissingDependencyError('pip install "ftclient[local]"') from error
        home = Path(home) if home is not None else default_home()
        chosen = in_process.Settings(home=home, engine=engine, aliases=aliases or {}, **settings)
        return cls(in_process.client(chosen), host=hosts.LOCAL, home=home)

    @classmethod
    def from_env(cls, *, home: Path | str | None = None) -> Self:
        """Connect to what FTCLIENT_BACKEND names (`local` if it is not set), with FTCLIENT_API_KEY if that is set.

        Raises:
            ValueError: FTCLIENT_BACKEND is neither the name of a host nor an address.
        """
        backend, key = os.environ.get("FTCLIENT_BACKEND"), os.environ.get("FTCLIENT_API_KEY")
        return cls.named(backend or "local", api_key=key, home=home)

    @classmethod
    def named(cls, backend: str, *, home: Path | str | None = None, api_key: str | None = None) -> Self:
        """Connect to a backend by its name (`local`, `openai`, `nebius`, ...) or address.

        Without `api_key` the key is that of the host's own environment variable: FTCLIENT_API_KEY, which may belong to
        another backend, goes to nobody but servers of one's own.

        Raises:
            ValueError: This is neither the name of a host nor an address.
        """
        if "://" in backend:
            return cls.at(backend, api_key=api_key, home=home)
        host = hosts.host_named(backend)
        if host.is_local:
            return cls.local(home=home)
        if host is hosts.AZURE:
            return cls.azure(connect.azure_endpoint(), api_key=api_key, home=home)
        return cls(connect.official(host, api_key=api_key), host=host, home=home)

    def __enter__(self) -> Self:
        """Return the client itself."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close the connections."""
        self.close()

    def __repr__(self) -> str:
        """Where it is connected to; never with a key."""
        return f"<Client at {self.host.title}>"

    def close(self) -> None:
        """Close the connections. Jobs go on."""
        self._official.close()
