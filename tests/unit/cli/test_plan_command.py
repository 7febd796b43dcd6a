"""`ftclient plan` as a shell sees it, at a host that cannot be reached: whatever is asked, the answer is clear."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from ftclient.cli.main import main


@pytest.fixture
def ft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run the command in this process; returns exit code, stdout and stderr."""
    lines = [
        {"messages": [{"role": "user", "content": f"{n} plus 1?"}, {"role": "assistant", "content": f"It is {n + 1}."}]}
        for n in range(20)
    ]
    (tmp_path / "good.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "bad.jsonl").write_text(json.dumps(lines[0]) + "\n" + '{"messages": []}\n' * 11)
    for name in ("FTCLIENT_BACKEND", "FTCLIENT_API_KEY", "FTCLIENT_PRICES", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FTCLIENT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[Any, str, str]:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["ftclient", "--backend", "openai", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        return (left.value.code, *capsys.readouterr())

    return run


PLAN = ("plan", "good.jsonl", "--model", "gpt-4.1-mini")


def test_the_cost_of_use_is_shown_with_its_verdict_and_curve(ft) -> None:
    code, out, _ = ft(*PLAN, "--calls-per-day", "1000", "--shots", "20")
    assert code == 0
    assert "1,000 calls a day" in out
    assert "Training has paid for itself after" in out
    assert "tuned as a line, untuned as dots" in out


def test_json_has_the_use_beside_the_plan(ft) -> None:
    code, out, _ = ft(*PLAN, "--calls-per-day", "10", "--prompt-tokens", "500", "--answer-tokens", "50", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["use"]["tuned_usd_per_call"] == "0.00056"  # 500 x $0.80 and 50 x $3.20, a million
    assert found["cost_usd"] is not None


def test_comparing_needs_no_model(ft) -> None:
    code, out, _ = ft("plan", "good.jsonl", "--compare", "--json")
    found = json.loads(out)
    assert code == 0
    assert {offer["host"] for offer in found["offers"]} >= {"azure", "crusoe", "local", "nebius"}
    code, out, _ = ft(*PLAN, "--compare", "--calls-per-day", "5")
    assert code == 0
    assert "Left out" in out


def test_comparing_without_a_model_leaves_the_validation_share_away(ft) -> None:
    billed = {}
    for more in ((), ("--valid", "50%")):
        code, out, _ = ft("plan", "good.jsonl", "--compare", "--epochs", "1", "--json", *more)
        assert code == 0
        (crusoe,) = (each for each in json.loads(out)["offers"] if each["model"] == "openai/gpt-oss-120b")
        billed[more] = crusoe["billed_tokens"]
    assert billed["--valid", "50%"] * 1.8 < billed[()]
    code, _, said = ft("plan", "good.jsonl", "--compare", "--valid", "missing.jsonl")
    assert code == 2
    assert "missing.jsonl" in said


def test_comparing_data_with_errors_fails(ft) -> None:
    code, out, _ = ft("plan", "bad.jsonl", "--compare")
    assert code == 1
    assert "such as empty_messages" in out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("plan",), 2, "name a training file"),
        (("plan", "good.jsonl"), 2, "name a model"),
        ((*PLAN, "--shots", "3"), 2, "--calls-per-day"),
        ((*PLAN, "--prices", "nowhere.json"), 2, "nowhere.json"),
        ((*PLAN, "--prices", "good.jsonl"), 1, "good.jsonl"),
        ((*PLAN, "--max-cost", "0"), 1, "more than the limit of $0"),
        ((*PLAN, "--max-cost", "lots"), 2, "no amount in dollars"),
        (("plan", "good.jsonl", "--model", "gpt-9", "--max-cost", "5"), 1, "is not known"),
        (("plan", "bad.jsonl", "--model", "gpt-4.1-mini"), 1, "empty_messages"),
        (("train", "good.jsonl", "--model", "gpt-4.1-mini"), 3, "No API key"),
        (("plan", "--accuracy"), 3, "No API key"),
    ],
)
def test_what_cannot_be_done_has_a_code_and_says_why(ft, arguments: tuple[str, ...], code: int, words: str) -> None:
    found, out, error = ft(*arguments)
    assert (found, words in out + error) == (code, True), out + error


def test_a_paid_job_is_refused_before_anything_is_sent(ft, monkeypatch: pytest.MonkeyPatch) -> None:
    """With no terminal there is nobody to agree, and a budget holds all the same."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    train = ("train", *PLAN[1:])
    code, _, error = ft(*train, "--max-cost", "0", "--yes")
    assert (code, "more than the limit of $0" in error) == (1, True)
    code, _, error = ft(*train, "--max-cost", "5")
    assert (code, "nobody is here to agree" in error) == (1, True)


def test_ones_own_price_decides_about_the_budget(ft, tmp_path: Path) -> None:
    entry = {"training": {"usd_per_million_tokens": "1000000"}}
    (tmp_path / "prices.json").write_text(
        json.dumps({"format": 2, "hosts": {"openai": {"models": {"gpt-4.1-mini": entry}}}})
    )
    code, out, error = ft(*PLAN, "--prices", "prices.json", "--max-cost", "100")
    assert code == 1
    assert "more than the limit of $100" in error
    assert "prices.json" in out


def test_past_jobs_are_none_at_first(ft, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    code, out, error = ft("plan", "--accuracy")
    assert (code, out) == (0, "")
    assert "No job was planned and started at OpenAI from this home yet." in error
    assert json.loads(ft("plan", "--accuracy", "--json")[1]) == []
