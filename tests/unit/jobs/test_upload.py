"""Datasets travel once, and as the bytes that were checked."""

from __future__ import annotations

import json

import pytest

from ftclient import Client, DataError, Dataset, UnavailableError, UnsupportedError, hosts
from tests.faults.proxy import NO_FAULT, Fault


def uploads(proxy) -> int:
    return sum(exchange.method == "POST" and exchange.path == "/v1/files" for exchange, _ in proxy.seen)


def test_the_same_content_is_sent_once_also_by_another_client_of_the_home(connect, data, proxy) -> None:
    first = connect().upload(data)
    again = connect().upload(Dataset(list(data)))
    assert first == again
    assert uploads(proxy) == 1


def test_a_file_that_the_host_has_lost_is_sent_again(connect, data, proxy) -> None:
    client = connect()
    first = client.upload(data)
    client.delete_file(first)
    assert client.upload(data) != first
    assert uploads(proxy) == 2


def test_the_file_at_the_host_is_byte_for_byte_the_dataset(connect, tmp_path) -> None:
    path = tmp_path / "odd.jsonl"
    path.write_bytes('{"messages": [{"role": "user", "content": "\\u3042 \U0001f600"}]}\r\n\n'.encode() * 12)
    client, dataset = connect(), Dataset.read(path)
    file_id = client.upload(dataset)
    assert client.openai.files.content(file_id).read() == path.read_bytes()


def test_a_dropped_upload_is_repeated_from_its_start(connect, proxy) -> None:
    data = Dataset({"messages": [{"role": "user", "content": f"dropped {n}"}]} for n in range(12))
    faults = [Fault(drop_before=True)]

    def choose(exchange):
        return faults.pop() if exchange.path == "/v1/files" and faults else NO_FAULT

    proxy.choose = choose
    client = connect()
    file_id = client.upload(data)
    assert client.openai.files.retrieve(file_id).bytes == data.size_bytes


def test_progress_ends_with_all_bytes(connect) -> None:
    data = Dataset({"messages": [{"role": "user", "content": f"progress {n} " * 9999}]} for n in range(12))
    seen = []
    connect().upload(data, progress=lambda sent, total: seen.append((sent, total)))
    assert seen == sorted(seen)
    assert seen[-1] == (data.size_bytes, data.size_bytes)


def test_large_files_go_in_parts_and_arrive_whole(connect, proxy, monkeypatch) -> None:
    from dataclasses import replace

    monkeypatch.setattr("ftclient.jobs.upload_parts.PART_BYTES", 1000)
    data = Dataset({"messages": [{"role": "user", "content": f"part {n}"}]} for n in range(60))
    client = connect(replace(hosts.LOCAL, max_file_bytes=2000))
    file_id = client.upload(data)
    assert client.openai.files.content(file_id).read() == data.open().read()
    parts = [exchange.path for exchange, _ in proxy.seen if exchange.path.endswith("/parts")]
    assert len(parts) == -(-data.size_bytes // 1000)


def test_a_file_too_large_for_a_host_without_uploads_is_refused_before_it_is_sent(connect, data, proxy) -> None:
    from dataclasses import replace

    client = connect(replace(hosts.LOCAL, max_file_bytes=10, missing=frozenset({"uploads"})))
    with pytest.raises(UnsupportedError, match="take a file of"):
        client.upload(Dataset([*data, *data]))
    assert not proxy.seen


def worded(**said):
    """Return an edit that words an answer about one file otherwise."""
    return lambda body: json.dumps({**json.loads(body), **said}).encode()


def test_a_file_that_has_arrived_is_not_sent_again_when_the_line_drops_while_the_host_reads_it(connect, proxy) -> None:
    data = Dataset({"messages": [{"role": "user", "content": f"read slowly {n}"}]} for n in range(12))

    def choose(exchange):
        if exchange.path == "/v1/files":
            return Fault(edit=worded(status="uploaded"))
        return Fault(status=503) if exchange.path.startswith("/v1/files/") else NO_FAULT

    proxy.choose = choose
    with pytest.raises(UnavailableError):
        connect().upload(data)
    left = [Fault(edit=worded(status="running"))]
    proxy.choose = lambda exchange: left.pop() if exchange.path.startswith("/v1/files/") and left else NO_FAULT
    file_id = connect().upload(data)
    assert uploads(proxy) == 1
    assert not left
    assert connect().openai.files.content(file_id).read() == data.open().read()


def test_a_host_that_does_not_say_how_long_a_file_is_has_taken_it(connect, proxy) -> None:
    data = Dataset({"messages": [{"role": "user", "content": f"unmeasured {n}"}]} for n in range(12))
    proxy.choose = lambda exchange: Fault(edit=worded(bytes=None)) if exchange.method == "POST" else NO_FAULT
    client = connect()
    assert client.openai.files.content(client.upload(data)).read() == data.open().read()


NO_OBJECT = [b"<html>", b"null", b'"page"', b"[]", b"{}", b'{"id": 7}']
"""Answers with status 200 of something on the way, such as a page to sign in."""


def once(is_meant, body: bytes):
    """Return a chooser that gives another answer in the place of the first one that is meant."""
    left = [Fault(edit=lambda _: body)]
    return lambda exchange: left.pop() if left and is_meant(exchange) else NO_FAULT


@pytest.mark.parametrize("body", NO_OBJECT)
def test_an_answer_that_is_no_file_is_told_and_the_upload_can_be_made_again(connect, proxy, body: bytes) -> None:
    data = Dataset({"messages": [{"role": "user", "content": f"no file {body!r} {n}"}]} for n in range(12))
    client = connect()
    proxy.choose = once(lambda exchange: exchange.method == "POST", body)
    with pytest.raises(UnavailableError, match="cannot be read"):
        client.upload(data)
    file_id = client.upload(data)
    proxy.choose = once(lambda exchange: exchange.path == f"/v1/files/{file_id}", body)
    with pytest.raises(UnavailableError, match="cannot be read"):
        client.upload(data)
    assert client.upload(data) == file_id


@pytest.mark.parametrize("body", NO_OBJECT)
def test_an_answer_that_is_no_file_ends_the_wait_for_one_that_the_host_reads(connect, proxy, body: bytes) -> None:
    data = Dataset({"messages": [{"role": "user", "content": f"waits {body!r} {n}"}]} for n in range(12))

    def choose(exchange):
        if exchange.path == "/v1/files":
            return Fault(edit=worded(status="uploaded"))
        return Fault(edit=lambda _: body) if exchange.path.startswith("/v1/files/") else NO_FAULT

    proxy.choose = choose
    with pytest.raises(UnavailableError, match="cannot be read"):
        connect().upload(data)
    proxy.choose = lambda _: NO_FAULT
    connect().upload(data)
    assert uploads(proxy) == 1


def test_a_host_that_gives_files_no_status_has_taken_them(connect, proxy) -> None:
    """OpenAI has deprecated it."""
    data = Dataset({"messages": [{"role": "user", "content": f"stateless {n}"}]} for n in range(12))
    proxy.choose = lambda exchange: Fault(edit=worded(status=None)) if exchange.method == "POST" else NO_FAULT
    client = connect()
    assert client.openai.files.content(client.upload(data)).read() == data.open().read()


@pytest.mark.parametrize("status", [400, 403, 404])
@pytest.mark.parametrize("refused", ["/content", "/v1/files?"])
def test_files_of_others_that_cannot_be_looked_at_are_not_used_and_stop_nothing(
    connect, proxy, tmp_path, refused, status
) -> None:
    data = Dataset({"messages": [{"role": "user", "content": f"theirs {refused} {status} {n}"}]} for n in range(12))
    theirs = connect().upload(data)
    proxy.choose = lambda exchange: (
        Fault(status=status) if exchange.method == "GET" and refused in exchange.path else NO_FAULT
    )
    with Client.at(proxy.url, home=tmp_path / "another home") as elsewhere:
        ours = elsewhere.upload(data, reuse=lambda _: True)
    assert ours != theirs
    assert uploads(proxy) == 2


@pytest.mark.parametrize("parts", [False, True], ids=["whole", "parts"])
def test_a_file_that_is_mended_while_it_is_sent_is_refused_and_taken_back(
    connect, tmp_path, monkeypatch, parts
) -> None:
    """The new text is as long as the old one, so that neither sizes nor counts give it away."""
    from dataclasses import replace

    monkeypatch.setattr("ftclient.jobs.upload_parts.PART_BYTES", 20_000)
    path = tmp_path / "data.jsonl"
    Dataset({"messages": [{"role": "user", "content": f"label-A {parts} {n} " * 99}]} for n in range(400)).write(path)
    data, client = Dataset.read(path), connect(replace(hosts.LOCAL, max_file_bytes=1000) if parts else hosts.LOCAL)
    checked = data.sha256

    def mend(_sent: int, _total: int) -> None:
        with path.open("rb+") as file:
            content = file.read().replace(b"label-A", b"label-B")
            file.seek(0)
            file.write(content)

    before = {file.id for file in client.files()}
    with pytest.raises(DataError, match="was changed since it was checked") as raised:
        client.upload(data, progress=mend)
    assert f"`ftclient check {path}`" in str(raised.value)
    assert ("No file has been made" if parts else "has been deleted") in str(raised.value)
    assert {file.id for file in client.files()} == before
    base_url = str(client.openai.base_url)
    assert client._journal.uploaded(base_url, checked, "fine-tune") is None
    assert client._journal.begun_parts(base_url, checked) is None
    mended = Dataset.read(path)
    assert client.openai.files.content(client.upload(mended)).read() == path.read_bytes()
