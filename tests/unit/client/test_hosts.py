"""Hosts are data: names, addresses, and what they refuse before anything is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftclient import DPO, BackendError, Client, Dataset, LocalOptions, Reinforcement, UnsupportedError, hosts
from ftclient.connect import command_for
from ftclient.jobs.request import JobRequest


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://api.openai.com/v1", hosts.OPENAI),
        ("https://acme.openai.azure.com", hosts.AZURE),
        ("https://acme.services.ai.azure.com/api/projects/p/openai/v1/", hosts.AZURE_PROJECT),
        ("https://api.tokenfactory.nebius.com/v1/", hosts.NEBIUS),
        ("https://api.intelligence.crusoecloud.com/v1", hosts.CRUSOE),
        ("http://gpu-box:8000/v1", hosts.LOCAL),
        ("http://127.0.0.1:8000", hosts.LOCAL),
        ("https://elsewhere.example/v1", hosts.OTHER),
        ("https://api.openai.com.evil.example/v1", hosts.OTHER),
    ],
)
def test_an_address_is_recognised_by_its_name_alone(url: str, host: hosts.Host) -> None:
    assert hosts.host_at(url) is host


def test_an_unknown_backend_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown backend 'opnai'.*openai.*local"):
        hosts.host_named("opnai")


def test_moving_openais_address_changes_neither_limits_nor_prices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    client = Client.openai(api_key="sk-test")
    assert client.host is hosts.OPENAI
    assert str(client.openai.base_url) == "http://127.0.0.1:9/v1/"


def test_a_server_address_may_lack_its_path() -> None:
    assert str(Client.at("http://gpu-box:8000").openai.base_url) == "http://gpu-box:8000/v1/"


def test_the_environment_chooses_the_backend_and_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTCLIENT_BACKEND", "http://gpu-box:8000/v1")
    monkeypatch.setenv("FTCLIENT_API_KEY", "secret-of-the-box")
    client = Client.from_env()
    assert client.host is hosts.LOCAL
    assert client.openai.api_key == "secret-of-the-box"
    assert "secret-of-the-box" not in repr(client)


def test_the_key_of_one_backend_is_not_sent_to_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTCLIENT_API_KEY", "secret-of-the-box")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    assert Client.named("openai").openai.api_key == "sk-openai"
    monkeypatch.setenv("FTCLIENT_BACKEND", "openai")
    assert Client.from_env().openai.api_key == "secret-of-the-box"


@pytest.mark.parametrize("url", ["gpu-box:8000", "ftp://gpu-box/v1", "/v1"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="no address of a server"):
        Client.at(url)


def test_azure_takes_classic_and_project_endpoints() -> None:
    classic = Client.azure("https://acme.openai.azure.com", api_key="k")
    project = Client.azure("https://acme.services.ai.azure.com/api/projects/p", api_key="k")
    assert str(classic.openai.base_url) == "https://acme.openai.azure.com/openai/"
    assert str(project.openai.base_url) == "https://acme.services.ai.azure.com/api/projects/p/openai/v1/"
    assert classic.host is hosts.AZURE
    assert project.host is hosts.AZURE_PROJECT


EXAMPLES = Dataset([{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}])


def test_a_method_that_a_host_lacks_is_refused_before_any_upload() -> None:
    request = JobRequest(model="m", train=EXAMPLES, method=DPO())
    with pytest.raises(UnsupportedError, match="cannot tune by dpo; it can by: supervised"):
        request.check_host(hosts.NEBIUS)


def test_a_training_type_is_refused_where_jobs_have_none(ft_client: Client) -> None:
    request = JobRequest(model="m", train=EXAMPLES, training_type="globalStandard")
    request.check_host(hosts.AZURE)
    request.check_host(hosts.AZURE_PROJECT)
    with pytest.raises(UnsupportedError, match="only Azure's jobs have one"):
        ft_client.plan(EXAMPLES, model="smollm2-135m", training_type="globalStandard")
    assert ft_client.files() == []


def test_a_training_type_that_azure_does_not_know_is_refused_with_those_it_knows() -> None:
    request = JobRequest(model="m", train=EXAMPLES, training_type="Standard")
    with pytest.raises(UnsupportedError, match="it knows standard, globalStandard, developerTier"):
        request.check_host(hosts.AZURE)


def test_reinforcement_at_azure_needs_a_validation_file() -> None:
    method = Reinforcement(grader={"type": "string_check"})
    JobRequest(model="o4-mini", train=EXAMPLES, method=method).check_host(hosts.OPENAI)
    JobRequest(model="o4-mini", train=EXAMPLES, valid=EXAMPLES, method=method).check_host(hosts.AZURE)
    with pytest.raises(UnsupportedError, match="only with a validation file"):
        JobRequest(model="o4-mini", train=EXAMPLES, method=method).check_host(hosts.AZURE)


def test_local_options_never_go_to_a_hosted_host() -> None:
    request = JobRequest(model="m", train=EXAMPLES, local=LocalOptions())
    with pytest.raises(UnsupportedError, match="LocalOptions are for the local backend alone"):
        request.check_host(hosts.OPENAI)


def test_a_project_endpoint_refuses_what_only_the_classic_one_can_take() -> None:
    with pytest.raises(UnsupportedError):
        hosts.AZURE_PROJECT.require("uploads", "take a large file")
    hosts.AZURE.require("uploads", "take a large file")


def test_a_model_that_is_not_deployed_yet_is_told_with_what_to_do(ft_client: Client) -> None:
    client = Client(ft_client.openai, host=hosts.AZURE, home=ft_client.home)
    with pytest.raises(BackendError, match="only once it is deployed"):
        client.chat("gpt-4.1-mini-2025-04-14.ft-abc", "hello")


def test_the_plan_says_what_has_to_be_done_before_use(ft_client: Client) -> None:
    client = Client(ft_client.openai, host=hosts.AZURE, home=ft_client.home)
    plan = client.plan(Dataset(list(EXAMPLES) * 10), model="gpt-4.1-mini")
    assert "before_use" in [note.code for note in plan.warnings]


@pytest.mark.parametrize(
    ("base_url", "named"),
    [
        ("https://api.openai.com/v1/", "openai"),
        ("http://localhost/v1/", "local"),
        ("https://acme.openai.azure.com/openai/", "azure"),
        ("https://acme.openai.azure.com/openai/v1/", "https://acme.openai.azure.com/openai/v1/"),
        ("http://gpu-box:8000/v1/", "http://gpu-box:8000/v1/"),
    ],
)
def test_the_command_that_reaches_a_backend_names_it_and_its_home(
    base_url: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv("FTCLIENT_HOME", str(tmp_path / "usual"))
    assert command_for(base_url, tmp_path / "usual") == f"ftclient --backend {named}"
    assert command_for(base_url, tmp_path / "other") == f"ftclient --backend {named} --home {tmp_path / 'other'}"


def test_an_address_that_the_environment_gives_a_host_is_called_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "https://gateway.acme.com/v1")
    monkeypatch.setenv("FTCLIENT_HOME", str(tmp_path))
    with Client.openai(api_key="sk-test") as client:
        assert command_for(str(client.openai.base_url), tmp_path) == "ftclient --backend openai"


def test_the_backend_in_this_process_is_called_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTCLIENT_HOME", str(tmp_path))
    with Client.local(home=tmp_path, engine="simulated") as client:
        assert command_for(str(client.openai.base_url), tmp_path) == "ftclient --backend local"
