"""Cleaning and mending, whatever comes in."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from ftclient.data import check_file
from ftclient.data.clean import SAFE_STEPS, STEPS, Cleaner, Cleaning, clean_file, mend
from ftclient.data.clean.mend import issues_of
from ftclient.data.limits import OPENAI_LIMITS
from tests.property.prepare.strategies import EXAMPLE_LIKE, JSON, ODD_TEXT, SOME_TEXT, chats

METHODS = st.sampled_from(["supervised", "dpo", "reinforcement"])
STEPS_WITHOUT_LENGTH = [step for step in STEPS if step != "too_long"]
FILE_CODES = {"too_few_examples", "file_empty"}


def errors_of(example, method="supervised"):
    issues = issues_of(example, line=1, method=method, limits=OPENAI_LIMITS)
    return [issue for issue in issues if issue.severity == "error"]


@given(chats())
def test_valid_examples_are_left_alone_by_mending(example):
    found, changes, errors = mend(example)
    assert (found, changes, errors) == (example, [], [])


@given(chats(ODD_TEXT.filter(lambda text: bool(text.strip()) and "<|" not in text)))
def test_cleaning_never_breaks_a_valid_example(example):
    cleaned = Cleaner(Cleaning(steps=STEPS_WITHOUT_LENGTH)).clean(example, line=1)
    if cleaned.example is not None:
        assert errors_of(cleaned.example) == []
        assert [m["role"] for m in cleaned.example["messages"]] == [m["role"] for m in example["messages"]]


@given(chats(ODD_TEXT.filter(lambda text: bool(text.strip()))))
def test_what_is_clean_stays_as_it_is(example):
    """`html` may be needed twice, where an entity stood for an entity; all other steps are done after one time."""
    steps = [step for step in STEPS_WITHOUT_LENGTH if step != "html"]
    once = Cleaner(Cleaning(steps=steps)).clean(example, line=1).example
    if once is not None:
        again = Cleaner(Cleaning(steps=steps)).clean(once, line=1)
        assert (again.example, again.changes) == (once, [])


DEFECTS = {
    "role_unknown": ("/messages/{last}/role", lambda example: example["messages"][-1].update(role="Assistant")),
    "unknown_key": ("/mesages", lambda example: example.update(mesages=example.pop("messages"))),
    "weight_invalid": ("/messages/{last}/weight", lambda example: example["messages"][-1].update(weight=True)),
    "last_not_assistant": (
        "/messages/{end}",
        lambda example: example["messages"].append({"role": "user", "content": "And then?"}),
    ),
    "wrong_type": (
        "/messages",
        lambda example: example.update(messages=json.dumps(example["messages"])),
    ),
}


@given(chats(), st.sampled_from(sorted(DEFECTS)))
def test_a_seeded_defect_is_mended_where_it_is(example, code):
    path, damage = DEFECTS[code]
    n = len(example["messages"])
    broken = deepcopy(example)
    damage(broken)
    found, changes, errors = mend(broken, line=3)
    assert errors == []
    assert [(change.line, change.step, change.path) for change in changes] == [
        (3, code, path.format(last=n - 1, end=n))
    ]
    weights = [message.get("weight") for message in found["messages"]]
    for message, weight in zip(found["messages"], [m.get("weight") for m in example["messages"]], strict=True):
        if weight is None:
            message.pop("weight", None)
    assert found == example
    assert all(type(weight) in {int, type(None)} for weight in weights)


@given(EXAMPLE_LIKE | JSON, METHODS)
def test_mending_never_fails_and_says_truly_what_is_left(example, method):
    before = deepcopy(example)
    found, changes, errors = mend(example, method=method)
    assert example == before
    assert [error.code for error in errors] == [error.code for error in errors_of(found, method)]
    assert bool(changes) or found == example


@given(st.dictionaries(st.sampled_from(["messages", "prompt", "input", "tools"]), EXAMPLE_LIKE), METHODS)
def test_every_example_goes_through_all_steps(example, method):
    cleaned = Cleaner(Cleaning(steps=STEPS_WITHOUT_LENGTH, fix=True, method=method)).clean(example, line=1)
    if cleaned.example is not None and not cleaned.errors:
        assert errors_of(cleaned.example, method) == []


LINES = st.one_of(
    st.binary(max_size=60),
    JSON.map(lambda value: json.dumps(value).encode()),
    EXAMPLE_LIKE.map(lambda value: repr(value).encode("utf-8", "replace")),
    chats().map(lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")),
    chats(SOME_TEXT).map(lambda value: json.dumps({**value, "id": 4}).encode()),
    st.tuples(SOME_TEXT, SOME_TEXT).map(lambda pair: json.dumps({"prompt": pair[0], "completion": pair[1]}).encode()),
)


@settings(max_examples=60)
@given(st.lists(LINES, max_size=8), st.booleans(), METHODS)
def test_a_fixed_file_passes_the_check_whatever_its_bytes_were(lines, all_steps, method):
    with TemporaryDirectory() as folder:
        source = Path(folder) / "in.jsonl"
        source.write_bytes(b"\n".join(lines))
        before = source.read_bytes()
        steps = STEPS_WITHOUT_LENGTH if all_steps else SAFE_STEPS
        done = clean_file(source, to=Path(folder) / "out.jsonl", steps=steps, fix=True, method=method)
        report = check_file(done.to, method=method, encoding=None, max_workers=0)
        assert {issue.code for issue in report.issues if issue.severity == "error"} <= FILE_CODES
        assert done.n_written + done.n_dropped + done.n_rejected == done.n_read
        assert report.n_examples == done.n_written
        assert source.read_bytes() == before
        assert all(isinstance(change.path, str) for change in done.changes())
