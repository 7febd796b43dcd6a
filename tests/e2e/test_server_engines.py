"""A home that was opened with one engine can be opened with the other: each model stays with its own."""

from __future__ import annotations

from pathlib import Path

import openai
import pytest

from local_backend import in_process
from local_backend.settings import Settings
from tests.contract.conftest import examples, wait


def test_simulated_jobs_and_models_stay_simulated_in_a_home_of_torch(tmp_path: Path):
    """What the simulated engine began is ended and answered by it, though the home is now torch's; without weights."""
    simulated = Settings(home=tmp_path, cache=tmp_path / "empty", engine="simulated", runner="thread")
    with in_process.client(simulated) as client:
        file = client.files.create(file=("a.jsonl", examples(10)), purpose="fine-tune")
        slow = {"local": {"simulate": {"speed": "timed", "seconds_per_step": 0.05}}}
        job_id = client.fine_tuning.jobs.create(
            model="smollm2-135m", training_file=file.id, hyperparameters={"n_epochs": 1}, extra_body=slow
        ).id
        wait(client, job_id, until=("running",))
    torch = Settings(home=tmp_path, cache=tmp_path / "empty", engine="torch", runner="thread")
    with in_process.client(torch) as client:
        job = wait(client, job_id)
        assert job.status == "succeeded", job.error
        question = [{"role": "user", "content": "Where is parcel 3?"}]
        answer = client.chat.completions.create(model=job.fine_tuned_model, messages=question)
        assert answer.choices[0].message.content == "Parcel 3 is in hall 3, on shelf 0."
        with pytest.raises(openai.BadRequestError, match="no weights"):
            client.get(f"/local/models/{job.fine_tuned_model}/export", cast_to=object)
        further = client.fine_tuning.jobs.create(
            model=job.fine_tuned_model, training_file=file.id, method={"type": "dpo"}
        )
        assert client.get(f"/local/jobs/{further.id}", cast_to=object)["engine"] == "simulated"
