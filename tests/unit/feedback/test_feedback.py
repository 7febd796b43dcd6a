"""What users said: kept as it comes, without personal data, and turned into training data with its lineage."""

from __future__ import annotations

import io
import json
import sqlite3
from pathlib import Path

import pytest
from openai.types.chat import ChatCompletionMessage
from rich.console import Console

from ftclient import Client, Dataset, LastLayers, LocalOptions, Supervised
from ftclient.errors import DataError
from ftclient.feedback import FeedbackStore, preferences, supervised
from ftclient.feedback.merge import write
from ftclient.lineage import LineageStore
from ftclient.lineage.view import render

LAMP = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "My lamp flickers."}]
DOOR = [{"role": "user", "content": "The door is stuck."}]


@pytest.fixture
def store(tmp_path: Path) -> FeedbackStore:
    """An empty store."""
    return FeedbackStore(tmp_path)


def test_feedback_is_kept_in_order_and_never_changed(store: FeedbackStore, tmp_path: Path) -> None:
    first = store.add(model="a", messages=LAMP, answer="Buy one.", verdict="bad", note="by phone")
    second = store.add(model="b", messages=DOOR, answer="Push.", correction="Pull.")
    assert FeedbackStore(tmp_path).all() == [first, second]
    assert store.all(model="b") == [second]
    assert store.all(since=second.at) == [second]
    for statement in ("DELETE FROM feedback", "UPDATE feedback SET verdict = 'good'"):
        with sqlite3.connect(tmp_path / "client.db") as db, pytest.raises(sqlite3.IntegrityError, match="never"):
            db.execute(statement)
        db.close()


def test_personal_data_never_reach_the_disk(store: FeedbackStore, tmp_path: Path) -> None:
    asked = [{"role": "user", "content": [{"type": "text", "text": "I am jo@example.com"}]}]
    kept = store.add(model="a", messages=asked, answer="Hello jo@example.com", correction="Hi", note="+49 30 901820")
    assert kept.messages[0]["content"] == [{"type": "text", "text": "I am [EMAIL_1]"}]
    assert kept.answer == "Hello [EMAIL_1]"
    assert kept.n_redacted == 3
    assert all(b"jo@example.com" not in path.read_bytes() for path in tmp_path.glob("client.db*"))
    whole = FeedbackStore(tmp_path, finder=None).add(
        model="a", messages=DOOR, answer="Mail jo@example.com", verdict="bad"
    )
    assert whole.answer == "Mail jo@example.com"


def test_personal_data_in_calls_of_tools_are_replaced_too(store: FeedbackStore) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "find", "arguments": '{"mail": "jo@example.com"}'}}
    result = {"role": "tool", "tool_call_id": "c", "content": "jo@example.com is known"}
    asked = [*DOOR, {"role": "assistant", "tool_calls": [call]}, result]
    kept = store.add(model="a", messages=asked, answer="Yes.", verdict="good")
    assert kept.messages[1]["tool_calls"][0]["function"] == {"name": "find", "arguments": '{"mail": "[EMAIL_1]"}'}
    assert kept.messages[2]["content"] == "[EMAIL_1] is known"
    assert kept.n_redacted == 2


def test_one_file_trains_one_method(store: FeedbackStore, tmp_path: Path) -> None:
    said = [store.add(model="a", messages=DOOR, answer="Push.", correction="Pull.")]
    for kind, example, other in (
        (
            "supervised",
            {"input": {"messages": LAMP}, "preferred_output": [], "non_preferred_output": []},
            "preferences",
        ),
        ("preferences", {"messages": LAMP}, "supervised"),
    ):
        (tmp_path / "old.jsonl").write_text(json.dumps(example) + "\n")
        with pytest.raises(DataError, match=rf"old\.jsonl: example 1 .*--kind {other}"):
            write(tmp_path, said, kind=kind, to=tmp_path / "new.jsonl", base=tmp_path / "old.jsonl")
        assert not (tmp_path / "new.jsonl").exists()


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"messages": LAMP, "answer": "Yes."}, "good or bad, or what"),
        ({"messages": [{"role": "user", "content": " "}], "answer": "Yes.", "verdict": "good"}, "it is empty"),
        ({"messages": [], "answer": "Yes.", "verdict": "good"}, "messages that were asked"),
        ({"messages": [*LAMP, {"role": "assistant", "content": "x"}], "answer": "Yes.", "verdict": "good"}, "up to"),
        ({"messages": LAMP, "answer": " ", "verdict": "good"}, "the answer that was given"),
        ({"messages": LAMP, "answer": "Yes.", "verdict": "fine"}, "not 'fine'"),
        ({"messages": LAMP, "answer": "Yes.", "correction": " "}, "empty"),
    ],
)
def test_what_makes_no_feedback_is_refused(store: FeedbackStore, given: dict[str, object], what: str) -> None:
    with pytest.raises(DataError, match=what):
        store.add(model="a", **given)  # type: ignore[arg-type]  # wrong on purpose
    assert store.all() == []


def test_the_last_word_counts(store: FeedbackStore) -> None:
    store.add(model="a", messages=LAMP, answer="Buy one.", verdict="good")
    store.add(model="a", messages=LAMP, answer="Buy one.", correction="Tighten the bulb.")
    store.add(model="a", messages=DOOR, answer="Push.", verdict="bad")
    assert supervised(store.all()) == [{"messages": [*LAMP, {"role": "assistant", "content": "Tighten the bulb."}]}]


def test_a_correction_counts_more_than_what_was_called_good_before_it(store: FeedbackStore) -> None:
    store.add(model="a", messages=LAMP, answer="Buy one.", verdict="bad")
    store.add(model="a", messages=LAMP, answer="Hit it.", verdict="good")
    store.add(model="a", messages=LAMP, answer="Buy one.", correction="Tighten the bulb.")
    (example,) = supervised(store.all())
    assert example["messages"][-1]["content"] == "Tighten the bulb."


def test_a_correction_meets_what_was_kept_and_written_with_all_keys_of_an_answer(
    store: FeedbackStore, tmp_path: Path
) -> None:
    """Earlier versions did so: the question is the same, and what was said to it is replaced."""
    answered = {"role": "assistant", "content": "Which?", "refusal": None, "annotations": [], "audio": None}
    talk = [*LAMP, answered, {"role": "user", "content": "This one."}]
    store.add(model="a", messages=DOOR, answer="Push.", verdict="bad")
    with sqlite3.connect(tmp_path / "client.db") as db:
        columns = "id, model, messages, answer, verdict, n_redacted, at"
        row = ("fb-old", "a", json.dumps(talk), "Buy one.", "good", 0, 1.0)
        db.execute(f"INSERT INTO feedback ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)", row)  # noqa: S608 - our own names
    db.close()
    base = tmp_path / "base.jsonl"
    base.write_text(json.dumps({"messages": [*talk, {"role": "assistant", "content": "Buy one."}]}) + "\n")
    now = store.add(model="a", messages=talk, answer="Buy one.", correction="Tighten the bulb.")
    assert store.all()[1].messages == now.messages
    merged = write(tmp_path, store.all(), kind="supervised", to=tmp_path / "new.jsonl", base=base)
    assert (merged.n_examples, merged.n_replaced) == (1, 1)
    (example,) = Dataset.read(merged.path)
    assert example["messages"] == [*now.messages, {"role": "assistant", "content": "Tighten the bulb."}]
    assert list(LineageStore(tmp_path).origins()[merged.sha256].feedback) == ["fb-old", now.id]


def test_a_correction_that_was_called_bad_since_is_no_example(store: FeedbackStore) -> None:
    store.add(model="a", messages=LAMP, answer="Hit it.", verdict="good")
    store.add(model="a", messages=LAMP, answer="Buy one.", correction="Tighten the bulb.")
    store.add(model="b", messages=LAMP, answer="Tighten the bulb.", verdict="bad")
    store.add(model="b", messages=DOOR, answer="Push.", correction="Pull.")
    store.add(model="b", messages=DOOR, answer="Pull.", verdict="bad")
    assert [each["messages"][-1]["content"] for each in supervised(store.all())] == ["Hit it."]
    store.add(model="c", messages=DOOR, answer="Kick.", correction="Pull.")
    assert [each["messages"][-1]["content"] for each in supervised(store.all())] == ["Hit it.", "Pull."]


def test_halves_of_surrogate_pairs_are_replaced_before_anything_is_written(
    store: FeedbackStore, tmp_path: Path
) -> None:
    half = "half \ud83d"
    call = {"id": "c", "type": "function", "function": {"name": half, "arguments": json.dumps({half: half})}}
    asked = [
        {"role": "user", "content": half},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "\ud83d\ude00"},
    ]
    kept = store.add(model=half, messages=asked, answer=half, correction=f"{half}!", note=half)
    assert store.all(model=half) == [kept]
    assert {kept.model, kept.answer, kept.note, kept.messages[0]["content"]} == {"half \N{REPLACEMENT CHARACTER}"}
    assert kept.messages[2]["content"] == "\N{GRINNING FACE}", "halves that belong together become one character"
    write(tmp_path, [kept], kind="supervised", to=tmp_path / "new.jsonl")
    assert "encoding" not in {issue.code for issue in Dataset.read(tmp_path / "new.jsonl").check().issues}


def test_messages_of_the_official_client_become_training_data(tmp_path: Path) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "find", "arguments": "{}"}}
    said = {"role": "assistant", "content": "Which lamp?", "refusal": None, "annotations": []}
    calls = {"role": "assistant", "content": None, "tool_calls": [call], "annotations": []}
    question, request = (ChatCompletionMessage.model_validate(each) for each in (said, calls))
    talk = [*DOOR, question, {"role": "user", "content": "This one."}]
    tools = [*DOOR, request, {"role": "tool", "tool_call_id": "c", "content": "5"}]
    with Client.local(home=tmp_path, engine="simulated") as client:
        for asked in (talk, tools, [*DOOR, question.model_dump(), talk[-1], *tools[1:]]):
            client.feedback("a", asked, "Yes.", verdict="good")  # type: ignore[arg-type]  # as applications do
    store = FeedbackStore(tmp_path)
    assert [each.messages[1] for each in store.all()[:2]] == [
        {"role": "assistant", "content": "Which lamp?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
    ]
    write(tmp_path, store.all(), kind="supervised", to=tmp_path / "new.jsonl")
    codes = {issue.code for issue in Dataset.read(tmp_path / "new.jsonl").check().issues}
    assert codes == {"too_few_examples", "tool_undefined"}
    with pytest.raises(DataError, match="it holds a bytes"):
        store.add(model="a", messages=[{"role": "user", "content": b"raw"}], answer="Yes.", verdict="good")


def test_corrections_and_thumbs_make_preferences(store: FeedbackStore) -> None:
    store.add(model="a", messages=LAMP, answer="Buy one.", correction="Tighten the bulb.")
    store.add(model="a", messages=DOOR, answer="Push.", verdict="bad")
    store.add(model="b", messages=DOOR, answer="Pull.", verdict="good")
    pairs = [
        (pair["preferred_output"][0]["content"], pair["non_preferred_output"][0]["content"])
        for pair in preferences(store.all())
    ]
    assert pairs == [("Tighten the bulb.", "Buy one."), ("Pull.", "Push.")]
    report = Dataset([*preferences(store.all())] * 5).check(method="dpo")
    assert report.ok


def test_a_merged_file_replaces_what_was_corrected_and_knows_what_it_is_made_of(
    store: FeedbackStore, tmp_path: Path
) -> None:
    old = tmp_path / "train.jsonl"
    lines = [{"messages": [*asked, {"role": "assistant", "content": "?"}]} for asked in (LAMP, DOOR)]
    old.write_text("".join(json.dumps(line) + "\n" for line in lines))
    said = store.add(model="a", messages=LAMP, answer="?", correction="Tighten the bulb.")
    merged = write(tmp_path, store.all(), kind="supervised", to=tmp_path / "next.jsonl", base=old)
    assert (merged.n_examples, merged.n_new, merged.n_replaced) == (2, 1, 1)
    assert [example["messages"][-1]["content"] for example in Dataset.read(merged.path)] == ["?", "Tighten the bulb."]
    with Client.local(home=tmp_path, engine="simulated") as client:
        assert client.family() == []
    with pytest.raises(DataError, match="exists already"):
        write(tmp_path, store.all(), kind="supervised", to=merged.path)
    with pytest.raises(DataError, match="makes no examples"):
        write(tmp_path, [], kind="preferences", to=tmp_path / "none.jsonl")
    made_of = LineageStore(tmp_path).origins()[merged.sha256]
    assert (list(made_of.parents), list(made_of.feedback)) == ([Dataset.read(old).sha256], [said.id])


def test_the_family_tree_knows_data_parents_settings_plans_and_scores(tmp_path: Path) -> None:
    questions = [{"messages": [{"role": "user", "content": f"q{n}"}]} for n in range(12)]
    for n, example in enumerate(questions):
        example["messages"].append({"role": "assistant", "content": f"a{n}"})
    with Client.local(home=tmp_path, engine="simulated") as client:
        client.feedback("smollm2-135m", "q0", "wrong", correction="right")
        file = tmp_path / "next.jsonl"
        base = Dataset(questions).write(tmp_path / "train.jsonl")
        write(tmp_path, FeedbackStore(tmp_path).all(), kind="supervised", to=file, base=Path(tmp_path / "train.jsonl"))
        data = Dataset.read(file)
        first = client.train(client.plan(data, model="smollm2-135m", method=Supervised(n_epochs=2), seed=5)).wait()
        last = LocalOptions(tune=LastLayers(n=3))
        second = client.train(client.plan(base, model=first.model, local=last)).wait()
        client.evaluate(Dataset(questions[:3]), models=[second.model])
        tree = client.family()
        kept = json.loads(json.dumps([node.to_json() for node in tree]))
    (root,) = tree
    (child,) = root.children
    (grandchild,) = child.children
    assert (root.model, child.model, grandchild.model) == ("smollm2-135m", first.model, second.model)
    assert child.data_sha256 == data.sha256
    assert child.made_of is not None
    assert list(child.made_of.parents) == [base.sha256]
    assert child.settings["n_epochs"] == 2
    assert child.settings["seed"] == 5
    assert child.plan is not None
    assert grandchild.settings["tune"]["type"] == last.tune.type
    assert [score.n for score in grandchild.scores] == [3]
    assert kept[0]["children"][0]["made_of"]["parents"] == [base.sha256]
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(render(tree))
    text = console.export_text()
    assert first.model in text
    assert "1 pieces of feedback" not in text
    assert "1 piece of feedback" in text
    assert f"tune {last.tune.type} (n 3)" in text
    assert "on 3 questions" in text
