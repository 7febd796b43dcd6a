"""What differs between hosts of the fine-tuning API, as data.

A host is what the constructor or `--backend` names. Moving its address (OPENAI_BASE_URL) changes neither its limits
nor its prices.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal
from urllib.parse import urlsplit

from ftclient.data.limits import LOCAL_LIMITS, OPENAI_LIMITS, Limits
from ftclient.errors import UnsupportedError

MethodType = Literal["supervised", "dpo", "reinforcement"]
TrainingType = Literal["standard", "globalStandard", "developerTier"]
"""Where Azure trains and at what price: in the resource's region, anywhere, or on spare capacity."""
Feature = Literal["uploads", "pause", "checkpoints", "metadata_filter", "model_delete", "validation_file"]

_MB = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Host:
    """One host: where it is, what it accepts, and what it means by it."""

    name: str
    """As `--backend` and FTCLIENT_BACKEND name it."""
    title: str
    """As people call it."""
    base_url: str | None = None
    """None: the address belongs to the account or the machine and is given by the user."""
    key_env: str = "FTCLIENT_API_KEY"
    """Environment variable of the API key."""
    limits: Limits = OPENAI_LIMITS
    learning_rate: Literal["multiplier", "absolute"] = "multiplier"
    """What the host does with `learning_rate_multiplier`."""
    methods: frozenset[MethodType] = frozenset({"supervised", "dpo"})
    needs_validation: frozenset[MethodType] = field(default_factory=frozenset)
    """Methods that are refused without a validation file."""
    missing: frozenset[Feature] = field(default_factory=frozenset)
    """Parts of the API that are not there; asking for them is refused before anything is sent."""
    max_file_bytes: int = 512 * _MB
    """Largest file through `/files`; above it goes `/uploads`, where there is one."""
    training_types: tuple[TrainingType, ...] = ()
    """Kinds of training that a job may ask for; () where there is only one, and the field is not known."""
    before_use: str | None = None
    """What has to be done with a tuned model before it answers, where training alone is not enough."""
    is_local: bool = False
    """A server of this project: free of charge, has `/v1/local/`, and honours Idempotency-Key."""

    def require(self, feature: Feature, what: str) -> None:
        """Refuse what the host cannot do, before anything is sent.

        Raises:
            UnsupportedError: The host has no such feature.
        """
        if feature in self.missing:
            raise UnsupportedError(f"{self.title} cannot {what}.")


OPENAI = Host(
    name="openai",
    title="OpenAI",
    base_url="https://api.openai.com/v1",
    key_env="OPENAI_API_KEY",
    methods=frozenset({"supervised", "dpo", "reinforcement"}),
)
AZURE = Host(
    name="azure",
    title="Azure OpenAI",
    key_env="AZURE_OPENAI_API_KEY",
    # 64 images an example: Azure's guide to vision fine-tuning (2026).
    limits=Limits(max_images=64),
    methods=frozenset({"supervised", "dpo", "reinforcement"}),
    # Larger files are taken through /files but fail hours later with a 500.
    max_file_bytes=150 * _MB,
    before_use=(
        "A tuned model answers at Azure only once it is deployed, in the portal or with `az cognitiveservices account "
        "deployment create`; deployments other than developer ones are charged by the hour, and `model` is then the "
        "deployment's name."
    ),
    training_types=("standard", "globalStandard", "developerTier"),
    needs_validation=frozenset({"reinforcement"}),
)
AZURE_PROJECT = replace(AZURE, missing=frozenset({"uploads"}))
"""The endpoint of a Foundry project: it answers /uploads with 404, so large files need the classic endpoint."""
NEBIUS = Host(
    name="nebius",
    title="Nebius Token Factory",
    base_url="https://api.tokenfactory.nebius.com/v1/",
    key_env="NEBIUS_API_KEY",
    learning_rate="absolute",
    methods=frozenset({"supervised"}),
    missing=frozenset({"uploads", "pause"}),
    max_file_bytes=5_000 * _MB,
)
CRUSOE = Host(
    name="crusoe",
    title="Crusoe Serverless",
    base_url="https://api.intelligence.crusoecloud.com/v1",
    key_env="CRUSOE_API_KEY",
    methods=frozenset({"supervised"}),
    missing=frozenset({"uploads", "pause"}),
    max_file_bytes=3_000 * _MB,
)
LOCAL = Host(
    name="local",
    title="the local backend",
    limits=LOCAL_LIMITS,
    methods=frozenset({"supervised", "dpo"}),
    max_file_bytes=32 * _MB,
    is_local=True,
)
OTHER = Host(name="other", title="the host", methods=frozenset({"supervised", "dpo", "reinforcement"}))

KNOWN = (OPENAI, AZURE, NEBIUS, CRUSOE, LOCAL)


def host_named(name: str) -> Host:
    """Return the host of this name.

    Raises:
        ValueError: No such host; the text lists those that there are.
    """
    for host in (*KNOWN, OTHER):
        if host.name == name.lower():
            return host
    names = ", ".join(host.name for host in KNOWN)
    raise ValueError(f"unknown backend {name!r}: use one of {names}, or the URL of a server")


def host_at(url: str) -> Host:
    """Return the host that answers at `url`, by its name alone; nothing is sent.

    Addresses of known hosts mean those hosts. Other plain `http` addresses are servers started by `ftclient serve`,
    on this machine or a neighbour; other `https` addresses are hosts of which only the contract is known.
    """
    parts = urlsplit(url)
    name = (parts.hostname or "").lower()
    for host in KNOWN:
        if host.base_url and name == urlsplit(host.base_url).hostname:
            return host
    if name.endswith((".openai.azure.com", ".services.ai.azure.com", ".cognitiveservices.azure.com")):
        return AZURE_PROJECT if "/api/projects/" in parts.path else AZURE
    return LOCAL if parts.scheme == "http" else OTHER
