"""The object that users hold, against the local backend with its simulated engine."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from ftclient import BackendError, Client, DataError, Dataset, JobNotFoundError, LocalOptions, Simulate, Supervised


def example(number: int) -> dict[str, object]:
    return {
        "messages": [
            {"role": "system", "content": "Answer as JSON."},
            {"role": "user", "content": f"What is {number} plus one?"},
            {"role": "assistant", "content": json.dumps({"answer": number + 1})},
        ]
    }


@pytest.fixture(scope="module")
def data() -> Dataset:
    return Dataset(map(example, range(40)))


@pytest.fixture
def tuned(ft_client: Client, data: Dataset) -> str:
    plan = ft_client.plan(data, model="smollm2-135m", method=Supervised(n_epochs=1), suffix="Sums")
    return ft_client.train(plan).wait(timeout_s=60).model


def test_the_main_job_end_to_end(ft_client: Client, data: Dataset) -> None:
    train, valid, test = data.split(0.6, 0.2, 0.2)
    plan = ft_client.plan(
        train,
        valid=valid,
        model="gpt-4o-mini",  # an alias; the job carries its target
        method=Supervised(n_epochs=2),
        suffix="sums",
        seed=3,
        metadata={"team": "support"},
    )
    job = ft_client.train(plan, max_cost_usd=0)
    result = job.wait(timeout_s=60)
    assert result.job.model == "smollm2-135m"
    assert result.job.seed == 3
    assert ":sums:" in result.model
    assert result.metrics[-1].full_valid_loss is not None
    assert [each.id for each in ft_client.jobs(metadata={"team": "support"})] == [job.id]
    assert ft_client.jobs(metadata={"team": "other"}) == []
    assert ft_client.job(job.id).latest.status == "succeeded"
    comparison = ft_client.evaluate(test, models=["smollm2-135m", result.model])
    assert [score.model for score in comparison.scores] == ["smollm2-135m", result.model]


def test_a_chat_is_text_whole_or_in_pieces(ft_client: Client, tuned: str) -> None:
    whole = ft_client.chat(tuned, "What is 3 plus one?", system="Answer as JSON.", temperature=0, seed=1)
    pieces = list(ft_client.chat_stream(tuned, "What is 3 plus one?", system="Answer as JSON.", temperature=0, seed=1))
    assert whole == "".join(pieces)
    assert len(pieces) > 1
    messages = [{"role": "user", "content": "What is 3 plus one?"}]
    assert ft_client.chat(tuned, messages, max_tokens=1)


def test_a_comparison_counts_exact_matches_and_valid_json(ft_client: Client, data: Dataset, tuned: str) -> None:
    seen = Dataset(list(data)[:8])  # the simulated tuned model answers what it was trained on
    told = []
    comparison = ft_client.evaluate(
        seen, models=["smollm2-135m", tuned], progress=lambda done, total: told.append((done, total))
    )
    base, better = comparison.scores
    assert (base.exact_match, base.valid_json) == (0.0, 0.0)
    assert better.valid_json == 1.0
    assert told == [(n, 16) for n in range(1, 17)]
    found = comparison.to_json()
    assert found["n_examples"] == 8
    assert found["answers"][0]["prompt"] == "What is 0 plus one?"
    assert set(found["answers"][0]["answers"]) == {"smollm2-135m", tuned}
    console = Console(file=io.StringIO(), width=80)
    console.print(comparison)
    text = console.file.getvalue()
    assert "What is 0 plus one?" in text
    assert "100%" in text
    assert repr(comparison).startswith("<Comparison on 8 questions: smollm2-135m 0%")
    assert "What is" not in repr(comparison)


@pytest.mark.parametrize(
    "examples",
    [[], [{"messages": []}], [{"messages": [{"role": "user", "content": "q"}]}], [{"prompt": "p", "completion": "c"}]],
)
def test_examples_without_an_answer_cannot_be_compared(ft_client: Client, examples: list[dict[str, object]]) -> None:
    with pytest.raises(DataError):
        ft_client.evaluate(Dataset(examples), models=["smollm2-135m"])


def test_errors_of_the_data_stop_before_anything_is_sent(ft_client: Client) -> None:
    bad = Dataset([*map(example, range(12)), {"messages": [{"role": "user", "content": "q"}]}])
    with pytest.raises(DataError, match=r"line 13: .*`ftclient check` lists them all") as raised:
        ft_client.plan(bad, model="smollm2-135m")
    assert raised.value.report.n_errors > 0
    assert ft_client.files() == []


def test_a_file_that_changes_after_its_check_is_refused(ft_client: Client, data: Dataset, tmp_path) -> None:
    path = tmp_path / "data.jsonl"
    dataset = data.write(path)
    plan_of = dataset.check()
    assert plan_of.ok
    path.write_bytes(path.read_bytes().replace(b"plus", b"PLUS"))
    with pytest.raises(DataError, match="changed since"):
        ft_client.upload(dataset)


def test_checking_for_a_local_model_uses_its_own_tokenizer(ft_client: Client, data: Dataset) -> None:
    report = ft_client.check(data, model="smollm2-135m")
    assert report.ok
    assert report.n_examples == 40


def test_real_valued_weights_pass_locally_and_not_at_openai(ft_client: Client) -> None:
    examples = [example(n) for n in range(12)]
    for each in examples:
        each["messages"][-1]["weight"] = 0.5
    weighted = Dataset(examples)
    assert ft_client.check(weighted).ok
    assert "weight_invalid" in {issue.code for issue in weighted.check().issues}


def test_pausing_keeps_a_usable_model_and_resuming_goes_on(ft_client: Client, data: Dataset) -> None:
    local = LocalOptions(simulate=Simulate(speed="timed", seconds_per_step=0.15))
    plan = ft_client.plan(data, model="smollm2-135m", method=Supervised(n_epochs=1, batch_size=1), local=local)
    job = ft_client.train(plan)
    for poll in job.polls():
        if poll.events and poll.events[-1].type == "metrics":
            break
    assert job.pause().status in ("pausing", "paused")
    assert job.details()["resume_point"] is not None or job.status == "pausing"
    job.resume()
    assert len(job.wait(timeout_s=60).metrics) == len(data)


def test_files_and_models_can_be_let_go(ft_client: Client, tuned: str) -> None:
    ft_client.delete_model(tuned)
    assert tuned not in [model.id for model in ft_client.models()]
    for file in ft_client.files():
        ft_client.delete_file(file.id)
    assert ft_client.files() == []


def test_the_machine_is_described(ft_client: Client) -> None:
    assert ft_client.machine()["engine"] == "simulated"


def test_an_unknown_job_is_not_found(ft_client: Client) -> None:
    with pytest.raises(JobNotFoundError):
        ft_client.job("ftjob-nonesuch")


def test_the_home_is_for_its_owner_alone(ft_client: Client, data: Dataset) -> None:
    ft_client.upload(data)
    assert ft_client.home.stat().st_mode & 0o777 == 0o700
    assert (ft_client.home / "client.db").stat().st_mode & 0o777 == 0o600


def test_a_newer_home_is_refused_with_words(ft_client: Client, data: Dataset) -> None:
    import sqlite3

    from ftclient import FtclientError

    ft_client.upload(data)
    db = sqlite3.connect(ft_client.home / "client.db")
    with db:
        db.execute("UPDATE meta SET version = 99")
    db.close()
    other = Client(ft_client.openai, host=ft_client.host, home=ft_client.home)
    with pytest.raises(FtclientError, match="format 99, this one reads 1"):
        other.upload(data)


def test_pulling_a_model_that_nobody_knows_says_which_are_known(ft_client: Client) -> None:
    ft_client.pull("smollm2-135m")
    with pytest.raises(BackendError, match="smollm2-135m"):
        ft_client.pull("nonesuch")
