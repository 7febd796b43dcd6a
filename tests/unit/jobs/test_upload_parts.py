"""Large files go in parts; a crash or a dropped line costs only the parts that were not there yet."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from ftclient import BackendError, DataError, Dataset, UnavailableError, hosts
from tests.faults.proxy import NO_FAULT, Exchange, Fault, random_faults
from tests.unit.jobs.test_upload import NO_OBJECT, once

SMALL = replace(hosts.LOCAL, max_file_bytes=2000)
"""A host at which files go in parts early."""


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ftclient.jobs.upload_parts.PART_BYTES", 1000)
    monkeypatch.setattr("ftclient.jobs.upload_parts.PAUSES_S", (0.01,))


def examples(name: str, n: int = 300) -> Dataset:
    return Dataset({"messages": [{"role": "user", "content": f"{name} {i}"}]} for i in range(n))


def content_sha256(client, file_id: str) -> str:
    return hashlib.sha256(client.openai.files.content(file_id).read()).hexdigest()


def is_part(exchange: Exchange) -> bool:
    return exchange.path.endswith("/parts")


def is_end(exchange: Exchange) -> bool:
    return exchange.path.endswith("/complete")


def n_parts(proxy) -> int:
    return sum(is_part(exchange) for exchange, _ in proxy.seen)


def settled_parts(proxy) -> int:
    """Count parts once those that a killed process had on their way have arrived."""
    while True:
        before = n_parts(proxy)
        time.sleep(0.5)
        if n_parts(proxy) == before:
            return before


@pytest.mark.parametrize("seed", [1, 2])
def test_a_bad_line_delays_an_upload_and_changes_nothing(connect, proxy, seed) -> None:
    client, data = connect(SMALL), examples(f"bad line {seed}", 150)
    proxy.choose = random_faults(seed, rate=0.3)
    file_id = None
    for _ in range(5):
        try:
            file_id = client.upload(data)
            break
        except UnavailableError:  # what the user sees when the line is down for long, and then tries again
            continue
    proxy.choose = lambda _: NO_FAULT
    assert content_sha256(client, file_id) == data.sha256


def test_parts_go_at_the_same_time(connect, proxy) -> None:
    """Each part is held up at the line, and yet several arrive before the first answer."""
    proxy.choose = lambda exchange: Fault(delay_s=0.2) if is_part(exchange) else NO_FAULT
    client, data = connect(SMALL), examples("at once", 100)
    seen_at_first = []
    client.upload(data, progress=lambda _sent, _total: seen_at_first.append(n_parts(proxy)))
    assert seen_at_first[0] > 1


def test_an_upload_that_was_cut_sends_only_what_is_missing(connect, proxy) -> None:
    client, data = connect(SMALL), examples("cut")
    left = iter(range(4))
    proxy.choose = lambda exchange: (
        Fault(drop_before=True) if is_part(exchange) and next(left, None) is None else NO_FAULT
    )
    with pytest.raises(UnavailableError):
        client.upload(data)
    assert len(client._journal.begun_parts(str(client.openai.base_url), data.sha256).parts) == 4
    proxy.choose, before = (lambda _: NO_FAULT), n_parts(proxy)
    told = []
    file_id = connect(SMALL).upload(data, progress=lambda sent, total: told.append((sent, total)))
    assert n_parts(proxy) - before == -(-data.size_bytes // 1000) - 4
    assert told[-1] == (data.size_bytes, data.size_bytes)
    assert content_sha256(client, file_id) == data.sha256
    assert client._journal.begun_parts(str(client.openai.base_url), data.sha256) is None


def test_a_process_killed_in_mid_upload_leaves_the_rest_to_its_successor(connect, proxy, tmp_path) -> None:
    client, data = connect(SMALL), examples("killed", 600)
    data.write(tmp_path / "data.jsonl")
    script = (
        "import os, signal, sys\n"
        "from dataclasses import replace\n"
        "from ftclient import Client, Dataset, hosts\n"
        "from ftclient.jobs import upload_parts\n"
        "upload_parts.PART_BYTES = 1000\n"
        "client = Client.at(sys.argv[1], host=replace(hosts.LOCAL, max_file_bytes=2000), home=sys.argv[2])\n"
        "def die(sent, total):\n"
        "    if sent > total / 3:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "client.upload(Dataset.read(sys.argv[3]), progress=die)\n"
    )
    command = [sys.executable, "-c", script, proxy.url, str(tmp_path / "home"), str(tmp_path / "data.jsonl")]
    assert subprocess.run(command, check=False).returncode == -9
    kept = client._journal.begun_parts(str(client.openai.base_url), data.sha256)
    before, whole = settled_parts(proxy), -(-data.size_bytes // 1000)
    assert 0 < len(kept.parts) < whole
    file_id = client.upload(Dataset.read(tmp_path / "data.jsonl"))
    assert n_parts(proxy) - before == whole - len(kept.parts)
    assert content_sha256(client, file_id) == data.sha256


def test_an_end_whose_answer_was_lost_is_found_by_its_bytes_and_made_once(connect, proxy) -> None:
    client, data = connect(SMALL), examples("lost end")
    faults = [Fault(drop_after=True)]
    proxy.choose = lambda exchange: faults.pop() if is_end(exchange) and faults else NO_FAULT
    file_id = client.upload(data)
    assert content_sha256(client, file_id) == data.sha256
    assert sum(is_end(exchange) for exchange, _ in proxy.seen) == 1
    assert sum(file.bytes == data.size_bytes for file in client.files()) == 1


@pytest.mark.parametrize("body", NO_OBJECT)
def test_an_upload_that_was_begun_without_a_readable_answer_is_begun_again(connect, proxy, body: bytes) -> None:
    client, data = connect(SMALL), examples(f"no upload {body!r}", 60)
    proxy.choose = once(lambda exchange: exchange.path == "/v1/uploads", body)
    with pytest.raises(UnavailableError, match="cannot be read"):
        client.upload(data)
    assert content_sha256(client, client.upload(data)) == data.sha256


def test_an_upload_that_does_not_say_when_it_ends_is_none(connect, proxy) -> None:
    client, data = connect(SMALL), examples("timeless", 60)
    body = json.dumps({"id": "upload_1", "expires_at": None, "created_at": "now"}).encode()
    proxy.choose = once(lambda exchange: exchange.path == "/v1/uploads", body)
    with pytest.raises(UnavailableError, match="cannot be read"):
        client.upload(data)


@pytest.mark.parametrize("body", NO_OBJECT)
def test_a_part_without_a_readable_answer_is_sent_again(connect, proxy, body: bytes) -> None:
    client, data = connect(SMALL), examples(f"no part {body!r}", 60)
    proxy.choose = once(is_part, body)
    assert content_sha256(client, client.upload(data)) == data.sha256
    assert n_parts(proxy) == -(-data.size_bytes // 1000) + 1


@pytest.mark.parametrize("body", [*NO_OBJECT, b'{"id": "upload_1", "status": "completed", "file": {}}'])
def test_an_end_without_a_readable_answer_is_found_by_its_bytes(connect, proxy, body: bytes) -> None:
    client, data = connect(SMALL), examples(f"no end {body!r}", 60)
    proxy.choose = once(is_end, body)
    assert content_sha256(client, client.upload(data)) == data.sha256
    assert sum(is_end(exchange) for exchange, _ in proxy.seen) == 1


def test_a_file_made_of_parts_is_waited_for_when_the_line_drops_while_the_host_reads_it(connect, proxy) -> None:
    def unread(body: bytes) -> bytes:
        done = json.loads(body)
        return json.dumps({**done, "file": {**done["file"], "status": "uploaded"}}).encode()

    def choose(exchange: Exchange) -> Fault:
        if is_end(exchange):
            return Fault(edit=unread)
        return Fault(status=503) if exchange.path.startswith("/v1/files/") else NO_FAULT

    client, data = connect(SMALL), examples("read slowly")
    proxy.choose = choose
    with pytest.raises(UnavailableError):
        client.upload(data)
    proxy.choose, before = (lambda _: NO_FAULT), n_parts(proxy)
    assert content_sha256(client, client.upload(data)) == data.sha256
    assert n_parts(proxy) == before
    assert sum(file.bytes == data.size_bytes for file in client.files()) == 1


def test_a_part_over_which_the_line_is_silent_is_sent_again(connect, proxy, monkeypatch) -> None:
    monkeypatch.setattr("ftclient.jobs.upload_parts.SILENCE_S", 0.5)
    client, data = connect(SMALL), examples("silent")
    dead = [Fault(delay_s=3600)]
    proxy.choose = lambda exchange: dead.pop() if is_part(exchange) and dead else NO_FAULT
    assert content_sha256(client, client.upload(data)) == data.sha256


@pytest.mark.parametrize("fault", [Fault(delay_s=3600), Fault(status=503, retry_after_s=100)], ids=["dead", "refusing"])
def test_ctrl_c_ends_an_upload_also_when_no_part_is_answered(proxy, tmp_path, fault) -> None:
    examples("interrupted").write(tmp_path / "data.jsonl")
    proxy.choose = lambda exchange: fault if is_part(exchange) else NO_FAULT
    script = (
        "import signal, sys\n"
        "from dataclasses import replace\n"
        "from ftclient import Client, Dataset, hosts\n"
        "from ftclient.jobs import upload_parts\n"
        "upload_parts.PART_BYTES = 1000\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "with Client.at(sys.argv[1], host=replace(hosts.LOCAL, max_file_bytes=2000), home=sys.argv[2]) as client:\n"
        "    client.upload(Dataset.read(sys.argv[3]))\n"
    )
    command = [sys.executable, "-c", script, proxy.url, str(tmp_path / "home"), str(tmp_path / "data.jsonl")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            while n_parts(proxy) < 4 and process.poll() is None:
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=60)  # long before the line would be given up
        finally:
            process.kill()
    assert said.splitlines()[-1] == "KeyboardInterrupt"
    assert "Exception in thread" not in said


def test_an_upload_that_the_host_has_forgotten_is_begun_anew(connect, proxy) -> None:
    client, data = connect(SMALL), examples("forgotten")
    left = iter(range(4))
    proxy.choose = lambda exchange: (
        Fault(drop_before=True) if is_part(exchange) and next(left, None) is None else NO_FAULT
    )
    with pytest.raises(UnavailableError):
        client.upload(data)
    proxy.choose = lambda _: NO_FAULT
    client.openai.uploads.cancel(client._journal.begun_parts(str(client.openai.base_url), data.sha256).upload_id)
    assert content_sha256(client, client.upload(data)) == data.sha256


def test_parts_that_were_damaged_on_the_way_are_refused_by_their_md5(connect, monkeypatch) -> None:
    client, data = connect(SMALL), examples("damaged")
    from openai.resources.uploads.parts import Parts

    send = Parts.create
    monkeypatch.setattr(Parts, "create", lambda self, upload_id, *, data: send(self, upload_id, data=data[::-1]))
    with pytest.raises(BackendError, match="md5"):
        client.upload(data)
    monkeypatch.undo()
    assert client._journal.begun_parts(str(client.openai.base_url), data.sha256) is None


def test_a_file_that_the_host_cannot_read_is_told_in_its_own_words(connect, tmp_path) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_bytes(b'{"messages": [}\n' * 20)
    with pytest.raises((DataError, BackendError), match=r"(?i)line 1|example 1"):
        connect().upload(Dataset.read(path))


def test_a_file_that_the_host_is_still_reading_is_waited_for(connect, proxy, monkeypatch) -> None:
    monkeypatch.setattr("ftclient.jobs.upload.time.sleep", lambda _: None)
    client, data = connect(), examples("slow host", 12)
    words = ["uploaded", "running", "pending"]

    def edit(body: bytes) -> bytes:
        return json.dumps({**json.loads(body), "status": words.pop(0)}).encode() if words else body

    proxy.choose = lambda exchange: Fault(edit=edit) if exchange.path.startswith("/v1/files") else NO_FAULT
    client.upload(data)
    assert not words


def test_a_file_of_another_name_is_used_only_if_the_user_says_so_and_its_bytes_agree(connect, proxy, tmp_path) -> None:
    client, data = connect(), examples("colleague's", 20)
    theirs = client.openai.files.create(file=("other.jsonl", data.open().read()), purpose="fine-tune")
    twin = bytes(reversed(data.open().read().replace(b"\n", b" ")))  # as long, and another content
    client.openai.files.create(file=("twin.jsonl", b'{"a": "' + b"x" * (len(twin) - 10) + b'"}\n'), purpose="fine-tune")
    asked = []
    ours = client.upload(data, reuse=lambda file: bool(asked.append(file.filename)))
    assert asked == ["other.jsonl"]
    assert ours != theirs.id
    from ftclient import Client

    elsewhere = Client.at(proxy.url, home=tmp_path / "another home")
    assert elsewhere.upload(data, reuse=lambda file: file.id == theirs.id) == theirs.id
    elsewhere.close()
