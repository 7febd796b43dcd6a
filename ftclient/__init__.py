"""Fine-tune language models with one typed SDK: OpenAI's API, other hosts that speak it, or your own machine.

    from ftclient import Client, Dataset

    client = Client.local()                 # or Client.openai(), Client.at(url), Client.from_env()
    train, valid, test = Dataset.read("support.jsonl").split(0.8, 0.1, 0.1)
    plan = client.plan(train, valid=valid, model="smollm2-135m")
    result = client.train(plan).wait()
    print(client.chat(result.model, "My card has not arrived"))

Names are loaded when they are first used, so that importing the package is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ftclient.async_client import AsyncClient, AsyncJob
    from ftclient.client import Client
    from ftclient.cost.book import PriceBook
    from ftclient.cost.plan import Plan
    from ftclient.data import Dataset, Issue, Report
    from ftclient.errors import (
        AccessError,
        AuthError,
        BackendError,
        BudgetError,
        DataError,
        FtclientError,
        JobFailedError,
        JobNotFoundError,
        MissingDependencyError,
        RateLimitError,
        UnavailableError,
        UnsupportedError,
    )
    from ftclient.evaluate.compare import Comparison
    from ftclient.hosts import Host
    from ftclient.jobs.job import Job
    from ftclient.jobs.local_options import (
        Augment,
        Classify,
        Evaluation,
        Full,
        Head,
        LastLayers,
        LocalOptions,
        LoRA,
        Runtime,
        Schedule,
        Simulate,
    )
    from ftclient.jobs.methods import DPO, Reinforcement, Supervised
    from ftclient.jobs.metrics import StepMetrics
    from ftclient.jobs.results import JobResult

__version__ = "0.1.0"

_HOMES = {
    "ftclient.async_client": ("AsyncClient", "AsyncJob"),
    "ftclient.client": ("Client",),
    "ftclient.cost.book": ("PriceBook",),
    "ftclient.cost.plan": ("Plan",),
    "ftclient.data": ("Dataset", "Issue", "Report"),
    "ftclient.errors": (
        "AccessError",
        "AuthError",
        "BackendError",
        "BudgetError",
        "DataError",
        "FtclientError",
        "JobFailedError",
        "JobNotFoundError",
        "MissingDependencyError",
        "RateLimitError",
        "UnavailableError",
        "UnsupportedError",
    ),
    "ftclient.evaluate.compare": ("Comparison",),
    "ftclient.hosts": ("Host",),
    "ftclient.jobs.job": ("Job",),
    "ftclient.jobs.local_options": (
        "Augment",
        "Classify",
        "Evaluation",
        "Full",
        "Head",
        "LastLayers",
        "LoRA",
        "LocalOptions",
        "Runtime",
        "Schedule",
        "Simulate",
    ),
    "ftclient.jobs.methods": ("DPO", "Reinforcement", "Supervised"),
    "ftclient.jobs.metrics": ("StepMetrics",),
    "ftclient.jobs.results": ("JobResult",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "DPO",
    "AccessError",
    "AsyncClient",
    "AsyncJob",
    "Augment",
    "AuthError",
    "BackendError",
    "BudgetError",
    "Classify",
    "Client",
    "Comparison",
    "DataError",
    "Dataset",
    "Evaluation",
    "FtclientError",
    "Full",
    "Head",
    "Host",
    "Issue",
    "Job",
    "JobFailedError",
    "JobNotFoundError",
    "JobResult",
    "LastLayers",
    "LoRA",
    "LocalOptions",
    "MissingDependencyError",
    "Plan",
    "PriceBook",
    "RateLimitError",
    "Reinforcement",
    "Report",
    "Runtime",
    "Schedule",
    "Simulate",
    "StepMetrics",
    "Supervised",
    "UnavailableError",
    "UnsupportedError",
]


def __getattr__(name: str) -> Any:
    """Load a public name from the module that has it (PEP 562)."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'ftclient' has no attribute {name!r}")
    found = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """Return all public names, loaded or not."""
    return sorted({*globals(), *__all__})
