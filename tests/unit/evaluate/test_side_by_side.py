"""What is done at the same time, and what only once."""

from __future__ import annotations

import os
import threading
import time

import pytest

from ftclient import Dataset
from ftclient.errors import UnsupportedError
from ftclient.evaluate.graders import grading, require_sandbox

MODEL = "gpt-4.1-nano"


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
