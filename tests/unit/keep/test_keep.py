"""The way out of a hosted account, against a server that plays the account."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ftclient import (
    DPO,
    BackendError,
    Client,
    DataError,
    FtclientError,
    UnavailableError,
    UnsupportedError,
    hosts,
)
from ftclient.data.digest import sha256_of
from ftclient.keep.download import save
from ftclient.keep.folder import KeepFolder
from ftclient.keep.golden import compare_with_golden, record
from ftclient.keep.inventory import inventory
from ftclient.keep.page import page
from ftclient.keep.prompts import cost_usd, prompts_of
from ftclient.keep.retrain import plan_again, train_again
from tests.e2e.serving import run_program
from tests.faults.proxy import NO_FAULT, Fault, FaultProxy
from tests.unit.keep.accounts import CANARY, KEY, Account, examples


def test_the_inventory_says_what_still_works_with_each_model(account: Account) -> None:
    found = {each.model: each for each in inventory(account.client, ask=True, today=dt.date(2026, 12, 15))}
    assert found[account.whole.model].calls == dict.fromkeys(("job", "model", "training_file", "chat"), "works")
    assert "No such File" in found[account.fileless.model].calls["training_file"]
    assert found[account.refusing.model].calls["model"] == "not listed"
    assert "does not exist" in found[account.refusing.model].calls["chat"]
    assert inventory(account.client)[0].calls["chat"] == "not tried"


def test_days_are_counted_to_the_day_on_which_the_base_goes(account: Account, monkeypatch) -> None:
    monkeypatch.setattr("ftclient.keep.inventory.shutdown_of", lambda _host, _model: "2027-01-14")
    assert {each.days_left for each in inventory(account.client, today=dt.date(2027, 1, 4))} == {10}


def test_what_can_be_saved_is_saved_and_what_not_is_listed(account: Account, kept: KeepFolder) -> None:
    whole = account.whole.job
    file = kept.path / f"files/{whole.training_file}.jsonl"
    assert file.read_bytes() == examples("whole").open().read()
    events = [json.loads(line) for line in (kept.path / f"jobs/{whole.id}/events.jsonl").read_text().splitlines()]
    assert events[0]["message"] == f"Created fine-tuning job: {whole.id}"
    assert len(kept.get_json(f"jobs/{whole.id}/metrics.json")) == len(account.whole.metrics)
    assert [each["step_number"] for each in kept.get_json(f"jobs/{whole.id}/checkpoints.json")] == [
        each.step_number for each in account.whole.checkpoints
    ]
    assert kept.get_json(f"jobs/{whole.id}/job.json")["seed"] == 5
    lost = {problem["what"] for problem in kept.manifest["problems"]}
    assert f"file {account.fileless.job.training_file} of {account.fileless.job_id}" in lost
    assert f"answers of {account.refusing.model}" in lost
    assert not any(account.whole.job_id in what or account.whole.model in what for what in lost)
    for name, entry in kept.manifest["files"].items():
        assert sha256_of(kept.path / name) == entry["sha256"]
    assert kept.path.stat().st_mode & 0o777 == 0o700


def test_a_second_run_fetches_only_what_is_missing_or_damaged(account: Account, kept: KeepFolder) -> None:
    file = kept.path / f"files/{account.whole.job.training_file}.jsonl"
    file.write_bytes(b"damaged")
    (kept.path / f"jobs/{account.whole.job_id}/events.jsonl").unlink()
    told: list[str] = []
    save(account.client, KeepFolder(kept.path), inventory(account.client), progress=told.append)
    assert file.read_bytes() == examples("whole").open().read()
    fetched = [what for what in told if not what.startswith("job ")]
    gone = f"file {account.fileless.job.training_file} of {account.fileless.job_id}"
    assert sorted(fetched) == sorted(
        [
            f"events.jsonl of {account.whole.job_id}",
            f"file {account.whole.job.training_file} of {account.whole.job_id}",
            gone,
        ]
    )


def test_a_job_that_the_host_cannot_show_is_listed_and_the_others_are_saved(account: Account, tmp_path: Path) -> None:
    ill = f"/v1/fine_tuning/jobs/{account.preferring.job_id}"
    with FaultProxy(account.url.removesuffix("/v1")) as proxy:
        proxy.choose = lambda exchange: Fault(status=500) if exchange.path == ill else NO_FAULT
        with Client.at(proxy.url, host=hosts.OPENAI, api_key=KEY, home=tmp_path / "home") as client:
            client.openai.max_retries = 0
            folder = KeepFolder(tmp_path / "kept")
            problems = save(client, folder, inventory(client))
    assert [each["what"] for each in problems if "job " in each["what"]] == [f"job {account.preferring.job_id}"]
    assert f"jobs/{account.whole.job_id}/job.json" in folder.manifest["files"]


def test_recording_goes_on_after_a_crash_and_asks_nothing_twice(account: Account, kept: KeepFolder) -> None:
    model, prompts = account.whole.model, prompts_of(examples("whole"), n=6)
    with pytest.raises(KeyboardInterrupt):
        record(account.client, kept, model, prompts, progress=_interrupt_at(3))
    with kept.golden_path(model).open("ab") as file:
        file.write(b'{"prompt": "torn')
    told: list[int] = []
    assert record(account.client, kept, model, prompts, progress=lambda done, _: told.append(done)) == 6
    entries = list(kept.golden(model))
    assert len({entry["prompt"] for entry in entries}) == len(entries) == 6
    assert entries[2]["answer"] == f"{CANARY} 2"
    assert told == [1, 2, 3, 4, 5, 6]


def _interrupt_at(n: int):
    def progress(done: int, _total: int) -> None:
        if done == n:
            raise KeyboardInterrupt

    return progress


def test_a_model_that_refuses_is_told_in_the_hosts_words(account: Account, kept: KeepFolder) -> None:
    with pytest.raises(BackendError, match="does not exist"):
        record(account.client, kept, account.refusing.model, prompts_of(examples("refusing")))
    with pytest.raises(BackendError, match="No answers of"):
        compare_with_golden(account.client, kept, account.refusing.model, account.whole.model)


def test_the_cost_of_recording_is_known_before_it_is_spent() -> None:
    prompts = prompts_of(examples("whole"), n=10)
    cost = cost_usd(hosts.OPENAI, "ft:gpt-4o-mini-2024-07-18:acme::a1b2c3d4", prompts, max_tokens=100)
    most = 10 * (100 * 1.20 + 30 * 0.30) / 1e6
    assert 10 * 100 * 1.20 / 1e6 < float(cost) < most
    assert cost_usd(hosts.OPENAI, "ft:unheard-of:acme::a1b2c3d4", prompts) is None


def test_the_same_job_on_an_open_model_gives_answers_to_compare(account: Account, kept: KeepFolder) -> None:
    record(account.client, kept, account.whole.model, prompts_of(examples("whole"), n=5))
    with Client.at(account.url, home=kept.path / "own machine") as own:
        plan = plan_again(own, kept, account.whole.job_id, model="smollm2-135m")
        assert (plan.epochs.n_epochs, plan.request.seed, plan.request.suffix) == (2, 5, "whole")
        assert plan.request.metadata == {"kept_from": account.whole.job_id}
        started = train_again(own, plan)
        result = started.wait(timeout_s=60)
        assert train_again(own, plan).id == started.id
        assert train_again(own, plan, anew=True).id != started.id
        with Client.at(account.url, home=kept.path / "another machine") as other:
            theirs = plan_again(other, kept, account.whole.job_id, model="smollm2-135m")
            assert train_again(other, theirs).id != started.id
        found = compare_with_golden(own, kept, account.whole.model, result.model)
        assert (found.n, found.exact, found.similarity) == (5, 1.0, 1.0)
        again = plan_again(own, kept, account.preferring.job_id, model="smollm2-135m")
        assert again.request.method == DPO(n_epochs=1, batch_size=account_batch(account), beta=0.3)
        with pytest.raises(FtclientError, match="training file"):
            plan_again(own, kept, account.fileless.job_id, model="smollm2-135m")


def test_another_job_is_started_also_where_the_answer_to_the_first_got_lost(
    account: Account, kept: KeepFolder, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr("ftclient.jobs.launch.LOOKS_S", (0.0,))
    with (
        FaultProxy(account.url.removesuffix("/v1")) as proxy,
        Client.at(proxy.url, home=tmp_path / "own machine") as own,
    ):
        own.openai.max_retries = 0
        plan = plan_again(own, kept, account.whole.job_id, model="smollm2-135m")
        proxy.choose = lambda exchange: Fault(drop_after="/fine_tuning/jobs" in exchange.path)
        with pytest.raises(UnavailableError):
            train_again(own, plan)
        proxy.choose = lambda _: NO_FAULT
        another = train_again(own, plan, anew=True)
        assert train_again(own, plan).id != another.id


def account_batch(account: Account) -> int:
    return account.preferring.job.method.dpo.hyperparameters.batch_size


def test_reinforcement_jobs_are_refused_with_words(account: Account, kept: KeepFolder) -> None:
    job = {**kept.get_json(f"jobs/{account.whole.job_id}/job.json"), "method": {"type": "reinforcement"}}
    kept.put_json("jobs/ftjob-rft/job.json", job)
    with pytest.raises(UnsupportedError, match="Reinforcement"):
        plan_again(account.client, kept, "ftjob-rft", model="smollm2-135m")


def test_a_folder_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"format": 99}')
    with pytest.raises(DataError, match="format 99"):
        KeepFolder(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(DataError, match="damaged"):
        KeepFolder(tmp_path)


def test_the_page_has_neither_key_nor_training_text_nor_markup_of_others(account: Account, kept: KeepFolder) -> None:
    record(account.client, kept, account.whole.model, prompts_of(examples("whole"), n=2))
    kept.manifest["problems"].append({"what": "<script>x</script>", "why": "no"})
    html = page(kept)
    assert account.whole.model in html
    assert "<script" not in html
    assert CANARY not in html
    assert KEY not in html
    assert not re.search(r"(src|href)=", html)


def test_models_that_there_are_no_prompts_for_are_missing_and_not_recorded(
    account: Account, kept: KeepFolder, tmp_path: Path
) -> None:
    models = account.fileless.model, account.whole.model
    chosen_host = {"OPENAI_BASE_URL": account.url, "OPENAI_API_KEY": KEY}
    environment = {**os.environ, **chosen_host, "FTCLIENT_HOME": str(tmp_path / "home")}
    record_ = [sys.executable, "-m", "ftclient", "--backend", "openai", "keep", "record", str(kept.path), "-n", "2"]
    for chosen, answers in ((models[:1], []), (models, [f"2 answers of {models[1]} are recorded."])):
        options = ["--yes", *(f"--model={name}" for name in chosen)]
        done = subprocess.run([*record_, *options], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert f"Left out {models[0]}: " in done.stderr
        assert [line for line in done.stderr.splitlines() if line.endswith(" recorded.")] == answers
        assert ("answers from OpenAI" in done.stderr) == bool(answers)  # nobody is asked to agree to nothing


def test_a_file_without_prompts_is_none_to_record_by(account: Account, kept: KeepFolder, tmp_path: Path) -> None:
    (tmp_path / "none.jsonl").write_text('{"messages": [{"role": "assistant", "content": "yes"}]}\n')
    environment = {"OPENAI_BASE_URL": account.url, "OPENAI_API_KEY": KEY}
    keep = [sys.executable, "-m", "ftclient", "--backend", "openai", "keep", "record", str(kept.path), "--yes"]
    run_program(*keep, "--prompts", str(tmp_path / "none.jsonl"), home=tmp_path / "home", expect=1, **environment)


@pytest.mark.slow
def test_the_commands_from_list_to_retrain(account: Account, tmp_path: Path) -> None:
    folder, home = tmp_path / "kept", tmp_path / "home"
    hosted = {"OPENAI_BASE_URL": account.url, "OPENAI_API_KEY": KEY}
    keep = [sys.executable, "-m", "ftclient", "--backend", "openai", "keep"]
    listed = json.loads(run_program(*keep, "list", "--json", home=home, **hosted))
    assert {each["model"] for each in listed} >= {account.whole.model, account.refusing.model}
    saved = json.loads(run_program(*keep, "save", str(folder), "--json", home=home, expect=1, **hosted))
    assert any(account.fileless.job.training_file in problem["what"] for problem in saved["problems"])
    refused = [*keep, "record", str(folder), "-n", "3"]
    run_program(*refused, home=home, expect=1, **hosted)  # nobody is there to agree to the cost
    run_program(*refused, "--yes", home=home, expect=1, **hosted)  # one model refuses; the others are recorded
    own = [sys.executable, "-m", "ftclient", "--backend", account.url, "keep", "retrain", str(folder)]
    found = json.loads(run_program(*own, account.whole.job_id, "--json", home=home))
    assert (found["golden"], found["n"], found["exact"]) == (account.whole.model, 3, 1.0)
    html = (folder / "index.html").read_text(encoding="utf-8")
    assert found["model"] in html
    assert "golden answers of" in html
    everything = [path for path in (*folder.rglob("*"), *home.rglob("*")) if path.is_file()]
    assert not [path for path in everything if KEY.encode() in path.read_bytes()]
