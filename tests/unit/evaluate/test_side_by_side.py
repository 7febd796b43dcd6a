"""What is done at the same time, and what only once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from ftclient import Dataset
from ftclient.errors import BackendError, UnsupportedError
from ftclient.evaluate.graders import grading, require_sandbox
from ftclient.evaluate.pace import Pace
from tests.unit.evaluate.conftest import refusal

MODEL = "gpt-4.1-nano"
EVALUATION = """
import signal, sys
from ftclient import Client, Dataset
signal.signal(signal.SIGINT, signal.default_int_handler)
with Client.openai(api_key="sk-test-0123456789", base_url=sys.argv[1], home=sys.argv[2]) as client:
    client.evaluate(Dataset.read(sys.argv[3]), models=[sys.argv[4]], workers=2)
"""


def example(question, answer="text", **more):
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}], **more}


def test_code_grades_no_more_answers_at_once_than_there_are_processors(ft_client, monkeypatch):
    try:
        require_sandbox()
    except UnsupportedError:
        pytest.skip("python graders are refused here")
    lock, under_way, most, run = threading.Lock(), 0, 0, grading.run_python

    def counted(*args, **options):
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        try:
            return run(*args, **options)
        finally:
            with lock:
                under_way -= 1

    monkeypatch.setattr(grading, "run_python", counted)
    grader = {"type": "python", "name": "code", "source": "def grade(sample, item):\n    return 1.0"}
    parts = {"type": "multi", "name": "both", "graders": {"code": grader}, "calculate_output": "code"}
    data = Dataset(example(f"q{number}") for number in range(10))
    for each in (grader, parts):
        assert ft_client.evaluate(data, models=["smollm2-135m"], grader=each).main.values["smollm2-135m"] == [1.0] * 10
    assert 1 <= most <= (os.cpu_count() or 1)


@pytest.mark.parametrize("fresh", [False, True])
def test_the_same_question_is_asked_once_and_billed_once(hosted, chat_host, fresh):
    def reply(_):
        time.sleep(0.05)  # so that all of them are under way
        return "text"

    chat_host.reply, bills = reply, []
    data = Dataset([example("same")] * 16 + [example("same", "other"), example("one more")])
    found = hosted.evaluate(data, models=[MODEL], fresh=fresh, announce=bills.append)
    assert found.answers[MODEL] == ["text"] * 18
    assert found.right(MODEL).count(True) == 17
    assert (len(chat_host.asked), bills[0].n_questions) == (2, 2)
    assert found.scores[0].cost_usd == hosted.evaluate(data, models=[MODEL]).scores[0].cost_usd <= bills[0].most_usd
    if fresh:
        hosted.evaluate(data, models=[MODEL], fresh=True)
        assert len(chat_host.asked) == 4


def test_keys_that_are_for_training_are_not_sent(hosted, chat_host):
    """OpenAI takes `weight` in training files, and not in questions."""
    before = example("a", "b")["messages"]
    last = example("c", "d")["messages"]
    data = Dataset([{"messages": [before[0], {**before[1], "weight": 0}, last[0], {**last[1], "weight": 1}]}])
    hosted.evaluate(data, models=[MODEL])
    assert chat_host.asked[0]["messages"] == [*before, last[0]]


def test_ctrl_c_waits_for_no_answer_and_those_that_have_come_are_kept(hosted, chat_host, tmp_path):
    data, dead = Dataset(example(f"q{number}") for number in range(9)), threading.Event()

    def reply(body):
        question = body["messages"][0]["content"]
        if question > "q2":
            dead.wait()
        return f"to {question}"

    chat_host.reply = reply
    data.write(tmp_path / "data.jsonl")
    command = [sys.executable, "-c", EVALUATION, chat_host.url, str(hosted.home), str(tmp_path / "data.jsonl"), MODEL]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            while len(chat_host.asked) < 5 and process.poll() is None:  # so that the first three are kept
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=30)  # long before the line would be given up
        finally:
            process.kill()
            dead.set()
    assert said.splitlines()[-1] == "KeyboardInterrupt"
    assert "Exception in thread" not in said
    found = hosted.evaluate(data, models=[MODEL])
    assert sum(answer.is_stored for answer in found.given[MODEL]) == 3
    assert found.answers[MODEL] == [f"to q{number}" for number in range(9)]


def test_nothing_is_told_of_pauses_once_nobody_is_asked_any_more(hosted, chat_host, monkeypatch):
    monkeypatch.setattr("ftclient.evaluate.pace._FIRST_PAUSE_S", 5.0)
    is_over, told, end = threading.Event(), [], Pace.end

    def ended(pace):
        end(pace)
        is_over.set()

    def reply(body):
        if body["messages"][0]["content"] == "q0":
            return 400, refusal("No.", code="refused")
        is_over.wait(30)
        return 503, refusal("Later.", code=None)

    monkeypatch.setattr(Pace, "end", ended)
    chat_host.reply = reply
    with pytest.raises(BackendError, match="No"):
        hosted.evaluate(Dataset(example(f"q{number}") for number in range(3)), models=[MODEL], tell=told.append)
    assert told == []
