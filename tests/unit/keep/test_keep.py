"""The way out of a hosted account, against a server that plays the account."""

from __future__ import annotations

import datetime as dt
import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from ftclient import (
    DPO,
    AccessError,
    BackendError,
    Client,
    DataError,
    Dataset,
    FtclientError,
    Supervised,
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
from tests.e2e.serving import HOSTED_MODEL, run_program, simulated_server
from tests.faults.proxy import NO_FAULT, Fault, FaultProxy

GREEN = "Everything that was asked for has been saved"
CANARY = "The heron keeps its key under the third stone"
KEY = "sk-canary-5f2d8c"


def examples(name: str, n: int = 12) -> Dataset:
    return Dataset(
        {"messages": [{"role": "user", "content": f"{name} {i}?"}, {"role": "assistant", "content": f"{CANARY} {i}"}]}
        for i in range(n)
    )


def pairs(n: int = 12) -> Dataset:
    def said(text: str) -> list[dict[str, str]]:
        return [{"role": "assistant", "content": text}]

    return Dataset(
        {
            "input": {"messages": [{"role": "user", "content": f"pair {i}?"}]},
            "preferred_output": said(f"yes {i}"),
            "non_preferred_output": said(f"no {i}"),
        }
        for i in range(n)
    )


class Account:
    """Four tuned models: one whole, one whose files were deleted, one that refuses, one tuned by preferences."""

    def __init__(self, url: str, home: Path) -> None:
        self.url = url
        self.client = Client.at(url, host=hosts.OPENAI, api_key=KEY, home=home)
        tune = self._tune
        self.whole = tune(examples("whole"), valid=examples("valid", 5), method=Supervised(n_epochs=2), suffix="whole")
        self.fileless = tune(examples("fileless"))
        self.refusing = tune(examples("refusing"))
        self.preferring = tune(pairs(), method=DPO(n_epochs=1, beta=0.3))
        self.client.delete_file(self.fileless.job.training_file)
        self.client.delete_model(self.refusing.model)

    def _tune(self, data: Dataset, **more):
        more.setdefault("method", Supervised(n_epochs=1))
        return self.client.train(self.client.plan(data, model=HOSTED_MODEL, seed=5, **more)).wait(timeout_s=60)


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory):
    from ftclient.jobs import follow

    pace, follow.Pace.after = follow.Pace.after, lambda _self, *, news: 0.05  # noqa: ARG005 - as the host answers
    try:
        with simulated_server(tmp_path_factory.mktemp("account")) as url:
            made = Account(url, tmp_path_factory.mktemp("home"))
            yield made
            made.client.close()
    finally:
        follow.Pace.after = pace


@pytest.fixture(scope="module")
def saved(account: Account, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = KeepFolder(tmp_path_factory.mktemp("saved") / "kept")
    save(account.client, folder, inventory(account.client, ask=True))
    return folder.path


@pytest.fixture
def kept(saved: Path, tmp_path: Path) -> KeepFolder:
    """A copy of what was saved, to change."""
    return KeepFolder(Path(shutil.copytree(saved, tmp_path / "kept")))


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


@pytest.fixture
def through(account: Account, tmp_path: Path):
    """A client of the account through a proxy, and the proxy."""
    with (
        FaultProxy(account.url.removesuffix("/v1")) as proxy,
        Client.at(proxy.url, host=hosts.OPENAI, api_key=KEY, home=tmp_path / "home") as client,
    ):
        client.openai.max_retries = 0
        yield client, proxy


def is_list(exchange, what: str) -> bool:
    return exchange.method == "GET" and exchange.path.split("?")[0] == f"/v1/{what}"


def refused(message: str, **more):
    """Return a fault that refuses in OpenAI's shape."""
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None, **more}
    return Fault(status=400, edit=lambda _: json.dumps({"error": error}).encode())


def models_of(folder: KeepFolder) -> dict[str, dict]:
    return {each["model"]: each for each in KeepFolder(folder.path).manifest["models"]}


def whats(folder: KeepFolder) -> set[str]:
    return {each["what"] for each in KeepFolder(folder.path).manifest["problems"]}


@pytest.mark.parametrize("lost", ["models", "fine_tuning/jobs"])
def test_a_key_that_may_list_only_jobs_or_only_models_still_lists_those(account: Account, through, lost) -> None:
    client, proxy = through
    proxy.choose = lambda exchange: Fault(status=403) if is_list(exchange, lost) else NO_FAULT
    told: list[str] = []
    found = {each.model: each for each in inventory(client, tell=told.append)}
    whole = found[account.whole.model]
    assert len(told) == 1
    assert "cannot be listed: OpenAI refuses access" in told[0]
    if lost == "models":
        assert (whole.job_id, account.refusing.model in found) == (account.whole.job_id, True)
        assert "refuses access" in whole.calls["model"]
    else:
        assert (whole.job_id, account.refusing.model in found) == (None, False)
        assert "refuses access" in whole.calls["job"]


def test_nothing_is_listed_where_neither_jobs_nor_models_can_be(through) -> None:
    client, proxy = through
    proxy.choose = lambda exchange: (
        Fault(status=403) if any(is_list(exchange, what) for what in ("models", "fine_tuning/jobs")) else NO_FAULT
    )
    with pytest.raises(AccessError):
        inventory(client)


def test_a_list_without_names_beside_one_that_is_refused_is_no_empty_account(through) -> None:
    client, proxy = through
    nothing = Fault(edit=lambda _: b'{"object": "list", "data": [], "has_more": false}')
    proxy.choose = lambda exchange: (
        Fault(status=403) if is_list(exchange, "models") else nothing if exchange.method == "GET" else NO_FAULT
    )
    with pytest.raises(AccessError):
        inventory(client)


@pytest.mark.parametrize(
    "faults",
    [
        [refused("Unsupported.", code="unsupported_parameter", param="max_tokens")],
        [refused("Could not finish the message because max_tokens or model output limit was reached.")],
    ],
    ids=["other name", "still thinking"],
)
def test_models_that_reason_are_not_taken_for_silent(account: Account, through, faults) -> None:
    client, proxy = through
    left = list(faults)
    proxy.choose = lambda exchange: left.pop() if left and exchange.path.endswith("/chat/completions") else NO_FAULT
    found = {each.model: each.calls["chat"] for each in inventory(client, ask=True)}
    assert not left
    assert [name for name, chat in found.items() if chat != "works"] == [account.refusing.model]


def test_models_that_are_listed_no_more_stay_in_the_folder(account: Account, kept: KeepFolder) -> None:
    found, whole = inventory(account.client), account.whole
    save(account.client, kept, [each for each in found if each.model != whole.model])
    gone = models_of(kept)[whole.model]
    assert gone["job_id"] == whole.job_id
    assert set(gone["calls"].values()) == {"not listed"}
    assert f"model {whole.model}" in whats(kept)
    assert whole.model in page(KeepFolder(kept.path))
    save(account.client, kept, found)
    assert models_of(kept)[whole.model]["calls"]["model"] == "works"
    assert f"model {whole.model}" not in whats(kept)


def test_a_key_that_may_not_list_jobs_makes_saved_ones_not_forgotten(account: Account, through, kept) -> None:
    client, proxy = through
    proxy.choose = lambda exchange: Fault(status=403) if is_list(exchange, "fine_tuning/jobs") else NO_FAULT
    before = models_of(kept)
    save(client, kept, inventory(client))
    after = models_of(kept)
    assert {name: each["job_id"] for name, each in after.items()} == {
        name: each["job_id"] for name, each in before.items()
    }
    assert (
        after[account.refusing.model] == before[account.refusing.model]
    )  # what is not seen now is not known to be gone


def test_a_problem_stays_until_what_it_is_about_could_be_had(account: Account, through, kept: KeepFolder) -> None:
    client, proxy = through
    ill = f"/v1/fine_tuning/jobs/{account.preferring.job_id}"
    kept.note_problem("golden answers of somebody", "It said nothing.")
    proxy.choose = lambda exchange: Fault(status=500) if exchange.path == ill else NO_FAULT
    save(client, kept, inventory(client))
    assert whats(kept) >= {f"job {account.preferring.job_id}", "golden answers of somebody"}
    assert f"answers of {account.refusing.model}" in whats(kept)  # it was not asked again
    proxy.choose = lambda _: NO_FAULT
    again = KeepFolder(kept.path)
    save(client, again, inventory(client))
    assert f"job {account.preferring.job_id}" not in whats(kept)
    assert "golden answers of somebody" in whats(kept)
    again.drop_problems(*whats(again) - {"golden answers of somebody"})
    assert GREEN not in page(again)
    again.drop_problems("golden answers of somebody")
    assert GREEN in page(again)


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
