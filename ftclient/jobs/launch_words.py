"""What people are told of a launch whose outcome is not known, or that went to another host."""

from __future__ import annotations

from pathlib import Path

from ftclient.connect import command_for
from ftclient.errors import FtclientError, JobNotFoundError, UnavailableError
from ftclient.hosts import Host
from ftclient.jobs.journal import Launch


def unknown(host: Host, entry: Launch, home: Path) -> UnavailableError:
    """Return what to do about a launch that was not answered and whose job is not found."""
    command = command_for(entry.base_url, home)
    return UnavailableError(
        f"{host.title} did not answer, and lists no job of this launch ({entry.run_id}): it may or may not exist. "
        f"Nothing is sent again. `{command} jobs` looks for it once more; if you know that there is none, "
        f"`{command} jobs --forget {entry.run_id}` lets it be sent again."
    )


def sent_elsewhere(host: Host, entry: Launch, home: Path) -> FtclientError:
    """Return why the run id of a launch at another address cannot be used at this host."""
    remedy = f"Choose a new run id to start another job at {host.title}."
    if entry.job_id:
        return JobNotFoundError(f"The run id {entry.run_id!r} has started {entry.job_id} at {entry.base_url}. {remedy}")
    return UnavailableError(
        f"The run id {entry.run_id!r} was sent to {entry.base_url}, and whether that made a job is not known: "
        f"`{command_for(entry.base_url, home)} jobs --lost` looks for it. {remedy}"
    )


def not_given_up_here(entry: Launch, home: Path) -> str:
    """Return why a launch at another address cannot be given up by this client."""
    return (
        f"the launch {entry.run_id!r} was sent to {entry.base_url}, where alone it can be looked for: "
        f"`{command_for(entry.base_url, home)} jobs --forget {entry.run_id}`"
    )
