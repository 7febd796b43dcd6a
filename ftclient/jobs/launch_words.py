"""What people are told of a launch whose outcome is not known, or that went to another host."""

from __future__ import annotations

import math
import shlex
import time
from pathlib import Path

from ftclient.connect import command_for
from ftclient.errors import FtclientError, JobNotFoundError, UnavailableError
from ftclient.hosts import Host
from ftclient.jobs.journal import UNDER_WAY_S, Launch


def unknown(host: Host, entry: Launch, home: Path, cause: UnavailableError | None = None) -> UnavailableError:
    """Return what to do about a launch without a sure answer whose job is not found; `cause` is what came instead."""
    said = f" ({str(cause).rstrip('.')})" if cause else ""
    text = f"{host.title} gave no sure answer{said}, and lists no job of this launch ({entry.run_id})"
    return UnavailableError(f"{text}: it may or may not exist. Nothing is sent again. {_ways_on(entry, home)}")


def unanswered(host: Host, entry: Launch, home: Path) -> UnavailableError:
    """Return why a job is not started that an earlier launch without an answer may have started already."""
    return UnavailableError(
        f"{host.title} did not answer an earlier launch of the same job ({entry.run_id}), and lists no job of it: it "
        f"may or may not exist. Nothing is sent. {_ways_on(entry, home)} A run id of its own (`--run-id NAME`, or "
        "run_id=) starts another job all the same."
    )


def under_way(host: Host, entry: Launch, home: Path) -> UnavailableError:
    """Return why a launch that may still be answered is left alone."""
    return UnavailableError(
        f"{host.title} lists no job of the launch {entry.run_id}, which was sent {_ago(entry)} and may still be on its "
        f"way, also by another process: it may or may not exist. Nothing is sent. {_later(entry)} "
        f"`{command_for(entry.base_url, home)} jobs` looks for it once more (in Python: client.find_lost())."
    )


def not_given_up_yet(entry: Launch) -> str:
    """Return why a launch that may still be answered cannot be given up."""
    return f"the launch {entry.run_id!r} was sent {_ago(entry)} and may still be answered. {_later(entry)}"


def taken_up(entry: Launch, job_id: str) -> str:
    """Return that the job of an earlier launch is gone on with instead of a new one."""
    return (
        f"An earlier launch of the same job ({entry.run_id}) had no answer; its job {job_id} is taken up, and no "
        "second one is started. A run id of its own (`--run-id NAME`, or run_id=) starts another."
    )


def limited(host: Host, pause_s: float) -> str:
    """Return that a launch was refused for now and is sent again after a pause."""
    return f"{host.title} is limiting requests; trying again in {math.ceil(pause_s)} s."


def found(entry: Launch, job_id: str) -> str:
    """Return that the job of a launch without an answer is there."""
    return f"The launch {entry.run_id} had no answer; its job is {job_id}."


def _ago(entry: Launch) -> str:
    return f"{max(0, round(time.time() - entry.updated_at))} s ago"


def _later(entry: Launch) -> str:
    left_s = entry.updated_at + UNDER_WAY_S - time.time()
    return f"Try again in {max(1, math.ceil(left_s / 60))} min."


def _ways_on(entry: Launch, home: Path) -> str:
    command = command_for(entry.base_url, home)
    return (
        f"`{command} jobs` looks for it once more; if you know that there is none, "
        f"`{command} jobs {_forget(entry)}` lets it be sent again. In Python: client.find_lost(), "
        f"client.forget_launch({entry.run_id!r})."
    )


def _forget(entry: Launch) -> str:
    """Return the option that gives a launch up, as a shell takes it whatever the run id is."""
    return f"--forget={shlex.quote(entry.run_id)}"


def sent_elsewhere(host: Host, entry: Launch, home: Path) -> FtclientError:
    """Return why the run id of a launch at another address cannot be used at this host."""
    remedy = f"Choose a new run id to start another job at {host.title}."
    if entry.job_id:
        return JobNotFoundError(f"The run id {entry.run_id!r} has started {entry.job_id} at {entry.base_url}. {remedy}")
    return UnavailableError(
        f"The run id {entry.run_id!r} was sent to {entry.base_url}, and whether that made a job is not known: "
        f"`{command_for(entry.base_url, home)} jobs --lost` looks for it (in Python: find_lost() of a client there). "
        f"{remedy}"
    )


def not_given_up_here(entry: Launch, home: Path) -> str:
    """Return why a launch at another address cannot be given up by this client."""
    return (
        f"the launch {entry.run_id!r} was sent to {entry.base_url}, where alone it can be looked for: "
        f"`{command_for(entry.base_url, home)} jobs {_forget(entry)}`, or in Python: "
        f"forget_launch({entry.run_id!r}) of a client there"
    )
