"""What the account no longer lists or shows stays in the folder, and the page says what is missing."""

from __future__ import annotations

import json

import pytest

from ftclient import AccessError
from ftclient.keep.download import save
from ftclient.keep.folder import KeepFolder
from ftclient.keep.inventory import inventory
from ftclient.keep.page import page
from tests.faults.proxy import NO_FAULT, Fault
from tests.unit.keep.accounts import Account

GREEN = "Everything that was asked for has been saved"


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


def without_job(job_id: str):
    """Return a fault that leaves a job out of a list."""

    def edit(content: bytes) -> bytes:
        page = json.loads(content)
        return json.dumps({**page, "data": [each for each in page["data"] if each["id"] != job_id]}).encode()

    return Fault(edit=edit)


def test_a_model_that_no_listed_job_has_made_stays_where_models_cannot_be_listed_next_time(
    account: Account, through, folder: KeepFolder
) -> None:
    client, proxy = through
    jobless = account.whole
    listed = {"models": NO_FAULT, "fine_tuning/jobs": without_job(jobless.job_id)}
    proxy.choose = lambda exchange: next((listed[what] for what in listed if is_list(exchange, what)), NO_FAULT)
    save(client, folder, inventory(client))
    before = models_of(folder)[jobless.model]
    assert before["job_id"] is None
    listed["models"] = Fault(status=403)
    save(client, folder, inventory(client))
    assert models_of(folder)[jobless.model] == before  # what is not seen now is not known to be gone
    assert f"job of {jobless.model}" in whats(folder)


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


def test_a_file_of_two_jobs_is_missed_by_neither_once_it_is_here(account: Account, through, folder: KeepFolder) -> None:
    client, proxy = through
    jobs, file = (account.preferring.job, account.alike.job), account.preferring.job.training_file
    assert {job.training_file for job in jobs} == {file}
    missed, left = {f"file {file} of {job.id}" for job in jobs}, [refused("Later.")]
    proxy.choose = lambda exchange: left.pop() if left and exchange.path == f"/v1/files/{file}/content" else NO_FAULT
    problems = save(client, folder, inventory(client))
    assert not left
    assert folder.has(f"files/{file}.jsonl")
    assert missed.isdisjoint(each["what"] for each in problems)
    assert missed.isdisjoint(whats(folder))
    for what in missed:
        folder.note_problem(what, "It was missed by an earlier save.")
    save(client, folder, inventory(client))
    assert missed.isdisjoint(whats(folder))
