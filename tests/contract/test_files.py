"""Files and uploads behave as OpenAI's."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

import openai
import pytest

from tests.contract.conftest import examples


def test_a_file_is_stored_and_given_back(api):
    data = examples(3)
    made = api.files.create(file=("März & Co.jsonl", data), purpose="fine-tune")
    assert made.id.startswith("file-")
    assert (made.bytes, made.filename, made.purpose, made.status) == (
        len(data),
        "März & Co.jsonl",
        "fine-tune",
        "processed",
    )
    assert api.files.retrieve(made.id) == made
    assert api.files.content(made.id).read() == data
    assert api.files.wait_for_processing(made.id, poll_interval=0.01).id == made.id


def test_a_deleted_file_is_gone_and_named_in_the_404(api, upload):
    file_id = upload(examples(1))
    deleted = api.files.delete(file_id)
    assert (deleted.id, deleted.deleted, deleted.object) == (file_id, True, "file")
    for call in (api.files.retrieve, api.files.delete, api.files.content):
        with pytest.raises(openai.NotFoundError) as caught:
            call(file_id)
        assert caught.value.body == {
            "message": f"No such File object: {file_id}",
            "type": "invalid_request_error",
            "param": "id",
            "code": None,
        }


def test_files_are_listed_newest_first_in_pages(api, upload):
    ids = [upload(examples(1, offset=i)) for i in range(5)]
    listed = [file.id for file in api.files.list(limit=2)]
    assert [file_id for file_id in listed if file_id in ids] == ids[::-1]
    oldest_first = [file.id for file in api.files.list(limit=3, order="asc")]
    assert [file_id for file_id in oldest_first if file_id in ids] == ids


def test_files_can_be_deleted_while_they_are_listed(api):
    made = {api.files.create(file=(f"{i}.bin", b"x"), purpose="vision").id for i in range(5)}
    seen = set()
    for file in api.files.list(limit=2, purpose="vision"):
        seen.add(file.id)
        api.files.delete(file.id)
    assert made <= seen
    assert list(api.files.list(purpose="vision")) == []


def test_a_page_names_its_ends(api, upload):
    newest = upload(examples(1))
    page = api.files.with_raw_response.list(limit=1)
    body = json.loads(page.text if isinstance(page.text, str) else page.text())
    assert (body["first_id"], body["last_id"], body["has_more"]) == (newest, newest, True)


def test_other_purposes_take_any_bytes(api):
    for purpose in ("assistants", "batch", "vision", "user_data", "evals"):
        made = api.files.create(file=("x.bin", bytes(range(256))), purpose=purpose)
        assert made.purpose == purpose
        assert api.files.content(made.id).read() == bytes(range(256))


def test_an_unknown_purpose_is_refused(api):
    with pytest.raises(openai.BadRequestError) as caught:
        api.files.create(file=("a.jsonl", b"{}"), purpose="fun")
    assert caught.value.param == "purpose"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'\xef\xbb\xbf{"messages": []}\n', "Line 1 is not a dictionary"),
        (b"prompt,completion\n", 'HINT: line starts with: "promp..."'),
        (b"[1]\n", "every line is a JSON dictionary"),
        (b"", "empty"),
    ],
)
def test_what_is_no_jsonl_is_refused_at_once(api, data, words):
    with pytest.raises(openai.BadRequestError, match=words) as caught:
        api.files.create(file=("a.jsonl", data), purpose="fine-tune")
    assert caught.value.type == "invalid_request_error"


def test_a_broken_later_line_puts_the_file_into_error(api):
    file = api.files.create(file=("a.jsonl", examples(2) + b'{"messages": [}\n'), purpose="fine-tune")
    assert file.status == "error"
    assert "Example 3 cannot be parsed. Error: line contains invalid json" in file.status_details
    assert "(line 3)" in file.status_details
    assert api.files.wait_for_processing(file.id).status == "error"


def test_a_file_can_expire(api):
    lifetime = {"anchor": "created_at", "seconds": 3600}
    file = api.files.create(file=("a.bin", b"x"), purpose="user_data", expires_after=lifetime)
    assert file.expires_at == file.created_at + 3600
    with pytest.raises(openai.BadRequestError) as caught:
        api.files.create(file=("a", b"x"), purpose="user_data", expires_after={**lifetime, "seconds": 60})
    assert caught.value.param == "expires_after.seconds"


def test_a_file_from_disk_arrives_whole(api, tmp_path: Path):
    path = tmp_path / "big.jsonl"
    path.write_bytes(examples(60_000))
    made = api.files.create(file=path, purpose="fine-tune")
    assert made.bytes == path.stat().st_size
    assert made.filename == "big.jsonl"
    assert hashlib.sha256(api.files.content(made.id).read()).digest() == hashlib.sha256(path.read_bytes()).digest()


def test_the_same_key_stores_a_file_once(api):
    headers = {"Idempotency-Key": f"file-{time.time_ns()}"}
    first = api.files.create(file=("a.jsonl", examples(2)), purpose="fine-tune", extra_headers=headers)
    again = api.files.create(file=("a.jsonl", examples(2)), purpose="fine-tune", extra_headers=headers)
    assert again == first
    with pytest.raises(openai.BadRequestError) as caught:
        api.files.create(file=("a.jsonl", examples(3)), purpose="fine-tune", extra_headers=headers)
    assert caught.value.code == "idempotency_key_reused"


def test_parts_are_joined_in_the_order_of_their_ids(api):
    data = examples(20)
    pieces = [data[i : i + 700] for i in range(0, len(data), 700)]
    made = api.uploads.create(bytes=len(data), filename="a.jsonl", mime_type="text/jsonl", purpose="fine-tune")
    assert (made.status, made.expires_at) == ("pending", made.created_at + 3600)
    by_piece = {i: api.uploads.parts.create(made.id, data=pieces[i]).id for i in reversed(range(len(pieces)))}
    part_ids = [by_piece[i] for i in range(len(pieces))]
    done = api.uploads.complete(made.id, part_ids=part_ids, md5=hashlib.md5(data, usedforsecurity=False).hexdigest())
    assert done.status == "completed"
    assert api.files.content(done.file.id).read() == data
    with pytest.raises(openai.BadRequestError, match="completed"):
        api.uploads.parts.create(made.id, data=b"late")


def test_the_client_uploads_large_files_in_parts(api, tmp_path: Path):
    path = tmp_path / "train.jsonl"
    path.write_bytes(examples(500))
    done = api.uploads.upload_file_chunked(file=path, mime_type="text/jsonl", purpose="fine-tune", part_size=10_000)
    assert api.files.content(done.file.id).read() == path.read_bytes()


def test_an_upload_of_another_size_or_sum_is_refused(api):
    def upload(n_bytes: int) -> tuple[str, str]:
        made = api.uploads.create(bytes=n_bytes, filename="a.bin", mime_type="x/y", purpose="user_data")
        return made.id, api.uploads.parts.create(made.id, data=b"12345").id

    upload_id, part = upload(6)
    with pytest.raises(openai.BadRequestError, match="5 bytes in all, but 6"):
        api.uploads.complete(upload_id, part_ids=[part])
    upload_id, part = upload(5)
    with pytest.raises(openai.BadRequestError, match="md5"):
        api.uploads.complete(upload_id, part_ids=[part], md5="0" * 32)
    with pytest.raises(openai.BadRequestError, match="no part 'part_x'"):
        api.uploads.complete(upload_id, part_ids=["part_x"])
    assert api.uploads.complete(upload_id, part_ids=[part]).status == "completed"


def test_a_cancelled_upload_takes_nothing_more(api):
    made = api.uploads.create(bytes=5, filename="a.bin", mime_type="x/y", purpose="user_data")
    part = api.uploads.parts.create(made.id, data=b"12345").id
    assert api.uploads.cancel(made.id).status == "cancelled"
    with pytest.raises(openai.BadRequestError, match="cancelled"):
        api.uploads.complete(made.id, part_ids=[part])
    with pytest.raises(openai.NotFoundError):
        api.uploads.cancel("upload_nothere")
