"""Launches whose outcome is not known: looked for again, or given up."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ftclient.hosts import Host
from ftclient.jobs.journal import Journal, Launch
from ftclient.jobs.launch import find
from ftclient.jobs.launch_words import found, not_given_up_here, not_given_up_yet

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types.fine_tuning import FineTuningJob


def reconcile(
    openai: OpenAI, host: Host, journal: Journal, *, tell: Callable[[str], None] | None = None
) -> list[Launch]:
    """Look for the jobs of launches without a known outcome; return those that are still not found.

    Among them are launches that other processes have under way. Nothing is sent again. `tell` is told in words of
    each job that is found.
    """
    base_url = str(openai.base_url)
    for pending in journal.launches(base_url, "intended", "unknown"):
        job = find(openai, host, pending.run_id)
        if job is not None:
            journal.settle(pending.run_id, "created", job_id=job.id)
            if tell:
                tell(found(pending, job.id))
    return journal.launches(base_url, "intended", "unknown")


def forget(openai: OpenAI, host: Host, journal: Journal, run_id: str) -> FineTuningJob | None:
    """Look once more for the job of an unknown launch; return it, or let its run id be sent again.

    Raises:
        ValueError: No launch of this run id is unknown, it was sent to another host, or it may still be answered.
    """
    entry = journal.launch(run_id)
    if entry is None or entry.state not in ("intended", "unknown"):
        raise ValueError(
            f"no launch {run_id!r} is unknown; `ftclient jobs --lost` lists those that are, as client.find_lost() does"
        )
    if entry.base_url != str(openai.base_url):
        raise ValueError(not_given_up_here(entry, journal.home))
    job = find(openai, host, run_id)
    if job is not None:
        journal.settle(run_id, "created", job_id=job.id)
        return job
    if entry.is_under_way:
        raise ValueError(not_given_up_yet(entry))
    note = "given up by the user: no such job in the host's list"
    journal.settle(run_id, "refused", note=note, begun_at=entry.created_at)
    return None
