"""Without this SDK: the official `openai` package trains at `ftclient serve` as it does at OpenAI.

    ftclient serve &
    OPENAI_BASE_URL=http://127.0.0.1:8000/v1 OPENAI_API_KEY=none python examples/03_official_client_only.py

The base URL is all that is changed. The script uploads a file, starts a job, follows its events page by page, reads
checkpoints and the result file, and asks the tuned model.
"""

import base64
import os
import time
from collections.abc import Iterator
from pathlib import Path

from openai import OpenAI
from openai.types.fine_tuning import FineTuningJobEvent

ENDED = {"succeeded", "failed", "cancelled"}


def new_events(client: OpenAI, job_id: str, seen: set[str]) -> Iterator[FineTuningJobEvent]:
    """Yield the events that are not in `seen`, oldest first. Pages come newest first."""
    found = []
    for event in client.fine_tuning.jobs.list_events(job_id, limit=10):  # asks for further pages as it goes
        if event.id in seen:
            break
        seen.add(event.id)
        found.append(event)
    yield from reversed(found)


def main() -> None:
    """Train, follow, ask."""
    client = OpenAI()
    path = Path(__file__).with_name("data") / "support.jsonl"
    file = client.files.create(file=path, purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model=os.environ.get("MODEL", "smollm2-135m"),
        training_file=file.id,
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 4}}},
        seed=1,
    )
    seen: set[str] = set()
    ended = False
    while not ended:
        ended = client.fine_tuning.jobs.retrieve(job.id).status in ENDED  # asked first: no late event is missed
        for event in new_events(client, job.id, seen):
            print(event.message)
        time.sleep(0 if ended else 0.5)

    job = client.fine_tuning.jobs.retrieve(job.id)
    if job.status != "succeeded" or not job.fine_tuned_model:
        raise SystemExit(f"The job ended {job.status}: {job.error and job.error.message}")
    for checkpoint in client.fine_tuning.jobs.checkpoints.list(job.id):
        print("Checkpoint after step", checkpoint.step_number, checkpoint.fine_tuned_model_checkpoint)
    table = base64.b64decode(client.files.content(job.result_files[0]).read()).decode()
    print(table.splitlines()[0])

    question = {"role": "user", "content": "The lid of my kettle no longer closes."}
    stream = client.chat.completions.create(
        model=job.fine_tuned_model, messages=[question], stream=True, temperature=0, max_tokens=40
    )
    print(f"{job.fine_tuned_model} answers: ", end="")
    for chunk in stream:
        print(chunk.choices[0].delta.content or "" if chunk.choices else "", end="")
    print()


if __name__ == "__main__":
    main()
