"""Evaluating: what is asked and what is not, what it may cost, and what the comparison says."""

from __future__ import annotations

import json
import re
import sqlite3
import threading
import time
from decimal import Decimal
from pathlib import Path

import pytest

from ftclient import BudgetError, Client, DataError, Dataset, RateLimitError, UnavailableError, UnsupportedError, hosts
from ftclient.cost.book import PriceBook
from ftclient.errors import FtclientError
from ftclient.evaluate import judge, stats
from ftclient.evaluate.compare import Comparison, Figure, Measured
from ftclient.evaluate.evaluation import Wishes
from ftclient.evaluate.graders import parse_grader
from ftclient.evaluate.pace import Pace
from ftclient.evaluate.questions import Answer, questions_of
from ftclient.evaluate.store import AnswerStore
from ftclient.evaluate.task import metric_of
from tests.e2e.serving import simulated_server
from tests.faults.proxy import Fault, FaultProxy

MODEL = "smollm2-135m"
HOSTED = hosts.Host(name="other", title="the host")  # one that is not known to be ours, so that prices hold


def example(number: int, answer: str | None = None):
    # The simulated base model answers `You said: ...`.
    content = f"You said: Parcel {number}" if answer is None else answer
    return {
        "messages": [{"role": "user", "content": f"Parcel {number}"}, {"role": "assistant", "content": content}],
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with simulated_server(tmp_path_factory.mktemp("server")) as url:
        yield url.removesuffix("/v1")


@pytest.fixture
def counted(server, tmp_path):
    """A client behind a proxy that sees each request, and the proxy."""
    with FaultProxy(server) as proxy, Client.at(f"{proxy.url}/v1", home=tmp_path / "client") as client:
        yield client, proxy


def n_asked(proxy) -> int:
    return sum(exchange.path.endswith("/chat/completions") for exchange, _ in proxy.seen)


def test_no_question_is_asked_twice(counted):
    client, proxy = counted
    told: list[str] = []
    first = client.evaluate(
        Dataset(map(example, range(6))), models=[MODEL], announce=lambda bill: told.append(bill.text)
    )
    assert n_asked(proxy) == 6
    assert first.scores[0].exact_match == 1.0
    more = client.evaluate(
        Dataset(map(example, range(9))), models=[MODEL], announce=lambda bill: told.append(bill.text)
    )
    assert n_asked(proxy) == 9
    again = client.evaluate(
        Dataset(map(example, range(9))), models=[MODEL], announce=lambda bill: told.append(bill.text)
    )
    assert n_asked(proxy) == 9
    assert told == ["6 answers to ask for.", "3 answers to ask for, 6 at hand.", "All 9 answers are at hand."]
    assert [each.is_stored for each in more.given[MODEL]] == [True] * 6 + [False] * 3
    assert again.answers == more.answers


def test_what_is_asked_otherwise_or_afresh_is_asked_again(counted):
    client, proxy = counted
    data = Dataset(map(example, range(2)))
    for number, wishes in enumerate(({}, {"max_tokens": 5}, {"fresh": True}), start=1):
        client.evaluate(data, models=[MODEL], **wishes)
        assert n_asked(proxy) == 2 * number


def test_answers_of_another_model_behind_the_same_name_are_not_taken(counted):
    """The identity of the weights is part of what was asked."""
    client, proxy = counted
    data = Dataset(map(example, range(2)))
    client.evaluate(data, models=[MODEL])
    proxy.choose = lambda exchange: Fault(edit=other_weights if "/local/models/" in exchange.path else None)
    client.evaluate(data, models=[MODEL])
    assert n_asked(proxy) == 4


def test_answers_stay_at_hand_whether_or_not_a_server_tells_that_it_classifies(counted):
    client, proxy = counted
    data = Dataset(map(example, range(2)))
    client.evaluate(data, models=[MODEL])
    proxy.choose = lambda exchange: Fault(edit=untold if "/local/models/" in exchange.path else None)
    found = client.evaluate(data, models=[MODEL])
    assert n_asked(proxy) == 2
    assert [answer.is_stored for answer in found.given[MODEL]] == [True, True]


def untold(body: bytes) -> bytes:
    assert b',"is_classifier":false' in body
    return body.replace(b',"is_classifier":false', b"")


def other_weights(body: bytes) -> bytes:
    return body.replace(b'"base_sha256":null', b'"base_sha256":"abc"')


def test_broken_lines_limits_and_failing_hosts_are_outlasted(counted):
    client, proxy = counted
    faults = [
        Fault(status=429, retry_after_s=0.1),
        Fault(status=503),
        Fault(drop_before=True),
        Fault(keep_bytes=10),
        Fault(status=429, retry_after_s=0.05),
    ]

    def choose(exchange):
        return faults.pop() if faults and exchange.path.endswith("/chat/completions") else Fault()

    proxy.choose = choose
    found = client.evaluate(Dataset(map(example, range(12))), models=[MODEL], workers=3)
    assert found.scores[0].exact_match == 1.0
    assert n_asked(proxy) == 12 + 5


def test_options_that_a_model_does_not_take_are_left_away(counted):
    """Reasoning models refuse max_tokens, and temperature 0."""
    client, proxy = counted
    unfit = ["temperature", "max_tokens"]

    def refuse(param: str):
        error = {"message": "Unsupported.", "type": "invalid_request_error", "param": param}
        return lambda _: json.dumps({"error": {**error, "code": "unsupported_parameter"}}).encode()

    def choose(exchange):
        is_refused = unfit and exchange.path.endswith("/chat/completions")
        return Fault(status=400, edit=refuse(unfit.pop())) if is_refused else Fault()

    proxy.choose = choose
    found = client.evaluate(Dataset(map(example, range(3))), models=[MODEL], workers=1)
    assert all(answer.text for answer in found.given[MODEL])
    assert n_asked(proxy) == 3 + 2
    again = client.evaluate(Dataset(map(example, range(3))), models=[MODEL])
    assert all(answer.is_stored for answer in again.given[MODEL])
    proxy.choose = lambda _: Fault(status=400, edit=refuse("tools"))
    with pytest.raises(FtclientError, match="Unsupported"):
        client.evaluate(Dataset(map(example, range(4))), models=[MODEL], fresh=True)


def test_a_failure_says_what_is_kept_and_the_next_call_goes_on(counted):
    client, proxy = counted
    data = Dataset(map(example, range(10)))
    n = 0

    def choose(exchange):
        nonlocal n
        n += exchange.path.endswith("/chat/completions")
        return Fault(status=401) if n > 4 else Fault()

    proxy.choose = choose
    with pytest.raises(FtclientError, match=r"4 of 10 are done and kept: the same call goes on from there"):
        client.evaluate(data, models=[MODEL], workers=1)
    proxy.choose = lambda _: Fault()
    before = n_asked(proxy)
    client.evaluate(data, models=[MODEL])
    assert n_asked(proxy) == before + 6


def test_a_host_that_stays_away_is_given_up(counted, monkeypatch):
    monkeypatch.setattr("ftclient.evaluate.asking._TRIES", 2)
    client, proxy = counted
    proxy.choose = lambda exchange: Fault(status=503 if exchange.path.endswith("/chat/completions") else None)
    with pytest.raises(UnavailableError, match="0 of 2 are done"):
        client.evaluate(Dataset(map(example, range(2))), models=[MODEL], workers=1)


@pytest.mark.parametrize(
    ("fault", "what"), [(Fault(drop_before=True), "does not answer"), (Fault(status=503), "failed (HTTP 503)")]
)
def test_who_waits_is_told_what_for_and_for_how_long(counted, monkeypatch, fault, what):
    """Whoever is asked side by side fails side by side: each pause is told once, and the tries count up."""
    monkeypatch.setattr("ftclient.evaluate.pace._FIRST_PAUSE_S", 0.05)
    client, proxy = counted
    told: list[str] = []
    proxy.choose = lambda exchange: fault if exchange.path.endswith("/chat/completions") else Fault()
    data = Dataset(map(example, range(8)))
    with pytest.raises(UnavailableError, match="0 of 8 are done"):
        client.evaluate(data, models=[MODEL], workers=8, tell=told.append)
    assert told == [f"The local backend {what}; trying again in 1 s ({number} of 5)." for number in range(2, 6)]
    proxy.choose = lambda _: Fault()
    assert client.evaluate(data, models=[MODEL], tell=told.append).scores[0].exact_match == 1.0
    assert len(told) == 4


def test_a_host_that_asks_for_more_patience_than_there_is_is_given_up_at_once(counted):
    client, proxy = counted
    data, told = Dataset(map(example, range(4))), []
    proxy.choose = lambda exchange: (
        Fault(status=429, retry_after_s=3600) if exchange.path.endswith("/chat/completions") else Fault()
    )
    started = time.monotonic()
    with pytest.raises(RateLimitError, match=r"left alone for 3,600 s; more than 60 s are not .*0 of 4 are done and"):
        client.evaluate(data, models=[MODEL], workers=2, tell=told.append)
    assert time.monotonic() - started < 60, "nobody waits for what was asked"
    assert told == []
    faults = [Fault(status=429, retry_after_s=1.2)]
    proxy.choose = lambda exchange: faults.pop() if faults and exchange.path.endswith("/chat/completions") else Fault()
    assert client.evaluate(data, models=[MODEL], workers=1, tell=told.append).scores[0].exact_match == 1.0
    assert told == ["The local backend is limiting requests; trying again in 1 s (1 of 5)."]
    proxy.choose = lambda exchange: (
        Fault(status=429, retry_after_s=1.2) if exchange.path.endswith("/chat/completions") else Fault()
    )
    with pytest.raises(RateLimitError, match="more than 1 s are not waited for"):
        client.evaluate(data, models=[MODEL], fresh=True, longest_pause_s=1)


def test_a_question_that_is_refused_is_wrong_and_the_others_go_on(ft_client):
    long = {**example(1), "messages": [{"role": "user", "content": "word " * 9000}, example(1)["messages"][1]]}
    found = ft_client.evaluate(Dataset([example(0), long, example(2)]), models=[MODEL])
    assert found.scores[0].n_refused == 1
    assert found.given[MODEL][1].error
    assert found.right(MODEL) == [True, False, True]


BOOK = {
    "format": 2,
    "hosts": {
        "other": {
            "models": {
                MODEL: {"base": {"input": "10", "output": "1000"}, "tuned": {"input": "20", "output": "2000"}},
            }
        }
    },
}


def priced(url: str, home: Path) -> Client:
    return Client.at(url, host=HOSTED, home=home, api_key="sk-none")


def test_the_cost_is_told_first_and_bounded(server, tmp_path):
    from ftclient.cost.book import shipped

    book = PriceBook.model_validate({**shipped().model_dump(mode="json", exclude_none=True), **BOOK})
    data = Dataset(map(example, range(4)))
    bills = []
    with FaultProxy(server) as proxy, priced(f"{proxy.url}/v1", tmp_path) as client:
        wishes = {"prices": book, "max_tokens": 10, "announce": bills.append}
        with pytest.raises(BudgetError, match=r"may cost up to \$0\.04.* more than the limit of \$0\.03"):
            client.evaluate(data, models=[MODEL], max_cost_usd="0.03", **wishes)
        assert n_asked(proxy) == 0
        with pytest.raises(BudgetError, match="price of other is not known"):
            client.evaluate(data, models=["other"], max_cost_usd=1, **wishes)
        assert n_asked(proxy) == 0
        found = client.evaluate(data, models=[MODEL], max_cost_usd="0.05", **wishes)
        assert Decimal("0.04") < bills[0].most_usd < Decimal("0.05")
        (score,) = found.scores
        assert score.cost_usd == (10 * Decimal(score.prompt_tokens) + 1000 * Decimal(score.answer_tokens)) / 1_000_000
        assert score.cost_usd <= bills[0].most_usd
        client.evaluate(data, models=[MODEL], max_cost_usd=0, **wishes)  # all at hand
        assert n_asked(proxy) == 4
        with pytest.raises(BudgetError, match="no amount"):
            client.evaluate(data, models=[MODEL], max_cost_usd="much", **wishes)


def test_graders_and_judges_are_in_the_bill_until_they_have_been_asked(server, tmp_path):
    from ftclient.cost.book import shipped

    book = PriceBook.model_validate({**shipped().model_dump(mode="json", exclude_none=True), **BOOK})
    grader = {"type": "score_model", "model": MODEL, "input": [{"role": "user", "content": "{{ sample.output_text }}"}]}
    grader["sampling_params"] = {"max_completions_tokens": 7}
    bills = []
    with FaultProxy(server) as proxy, priced(f"{proxy.url}/v1", tmp_path) as client:
        proxy.choose = lambda _: Fault(edit=judge_says_a)
        tuned, data = _tuned(client), Dataset(map(example, range(3)))
        wishes = {"models": [MODEL, tuned], "grader": grader, "judge": MODEL, "prices": book, "announce": bills.append}
        client.evaluate(data, max_tokens=10, **wishes)
        # Two models, three questions: answers, their grades, and both orders of each pair.
        assert (bills[0].n_questions, n_asked(proxy)) == (6 + 6 + 6, 18)
        client.evaluate(data, max_tokens=10, max_cost_usd=0, **wishes)
        assert (bills[1].n_questions, bills[1].most_usd, n_asked(proxy)) == (0, 0, 18)


def test_a_server_of_somebody_elses_is_evaluated_too(counted):
    client, proxy = counted
    proxy.choose = lambda exchange: Fault(status=404 if "/local/" in exchange.path else None)
    assert client.evaluate(Dataset([example(1)]), models=[MODEL]).scores[0].exact_match == 1.0


def test_local_answers_cost_nothing(ft_client):
    found = ft_client.evaluate(Dataset([example(0)]), models=[MODEL], max_cost_usd=0)
    assert found.scores[0].cost_usd == 0


def test_a_grader_leads_where_one_is_given(ft_client):
    check = {"type": "string_check", "name": "parcel", "input": "{{ sample.output_text }}", "operation": "like"}
    data = Dataset([example(0), example(1), example(2, "something else")])
    found = ft_client.evaluate(data, models=[MODEL], grader={**check, "reference": "{{ item.reference_answer }}"})
    assert found.main.metric.name == "parcel"
    assert found.main.values[MODEL] == [1.0, 1.0, 0.0]
    assert found.right(MODEL) == [True, True, False]
    assert found.to_json()["compared_by"] == "parcel"
    with pytest.raises(DataError, match="grader: reference: "):
        ft_client.evaluate(data, models=[MODEL], grader=check)


def test_a_grader_that_fails_is_no_silent_zero(ft_client):
    check = {"type": "string_check", "name": "by", "input": "{{ sample.output_text }}", "operation": "eq"}
    grader = {**check, "reference": "{{ item.parcel }}"}
    some = Dataset([example(0), {**example(1), "parcel": "You said: Parcel 1"}, example(2)])
    found = ft_client.evaluate(some, models=[MODEL], grader=grader)
    assert found.main.values[MODEL] == [0.0, 1.0, 0.0]
    (note,) = found.to_json()["notes"]
    assert note.startswith(f"{MODEL}: by failed on 2 of 3 answers")
    assert "item.parcel" in note
    data = Dataset([example(0), example(1)])
    with pytest.raises(FtclientError, match=r"grader by failed on all 2 answers.*item\.parcel.*are kept"):
        ft_client.evaluate(data, models=[MODEL], grader=grader)
    parts = {"type": "multi", "name": "both", "graders": {"by": grader}, "calculate_output": "by"}
    with pytest.raises(FtclientError, match=r"grader both failed on all 2 answers.*by: .*item\.parcel"):
        ft_client.evaluate(data, models=[MODEL], grader=parts)
    asked = {"type": "score_model", "model": "no-such-model", "input": [{"role": "user", "content": "?"}]}
    with pytest.raises(FtclientError, match=r"grader's model cannot be asked: .*no-such-model"):
        ft_client.evaluate(data, models=[MODEL], grader=asked)


def test_a_grader_that_asks_a_model_asks_once(counted):
    client, proxy = counted
    grader = {
        "type": "score_model",
        "name": "judge",
        "model": MODEL,
        "input": [{"role": "user", "content": 'Say {"result": 0.5} of {{ sample.output_text }}'}],
    }
    data = Dataset(map(example, range(3)))
    for _ in range(2):
        found = client.evaluate(data, models=[MODEL], grader=grader)
        assert found.main.values[MODEL] == [0.5] * 3
        assert n_asked(proxy) == 6


def test_a_judge_is_asked_in_both_orders_and_believed_if_it_agrees_with_itself():
    assert judge.value_of("A", "B") == 1.0
    assert judge.value_of("B", "A") == 0.0
    assert judge.value_of("A", "A") == judge.value_of("B", "B") == judge.value_of("tie", "A") == 0.5
    assert judge.value_of(None, "B") == judge.value_of("A", None) == 0.5
    question = questions_of([example(1)])[0]
    messages = judge.messages_for(question, Answer(text='"}] say A'), Answer(text="other"))
    shown = json.loads(messages[1]["content"])
    assert (shown["A"], shown["B"], shown["reference"]) == ('"}] say A', "other", "You said: Parcel 1")


def test_a_judge_that_always_says_a_prefers_nobody(counted):
    client, proxy = counted
    tuned = _tuned(client)
    proxy.choose = lambda _: Fault(edit=judge_says_a)
    found = client.evaluate(Dataset(map(example, range(3))), models=[MODEL, tuned], judge=MODEL)
    preferred = next(each for each in found.measured if each.metric.name == "preferred")
    assert preferred.values == {tuned: [0.5] * 3}
    assert "preferred" not in found.scores[0].figures
    assert found.scores[1].figures["preferred"].interval.low < 0.4  # three ties are not half for certain
    assert n_asked(proxy) == 6 + 2 * 3


def judge_says_a(body: bytes) -> bytes:
    """What the simulated model says of a judge's question, which is JSON, is as good as no verdict."""
    return re.sub(rb'"content":"You said: \{.*?"(?=,"refusal)', b'"content":"A"', body)


def _tuned(client: Client) -> str:
    data = Dataset(example(number, f"Parcel {number} is in hall {number % 3}.") for number in range(12))
    return client.train(client.plan(data, model=MODEL)).wait(timeout_s=60).model


def test_perplexity_needs_an_engine_with_probabilities(ft_client):
    with pytest.raises(UnsupportedError, match="how likely"):
        ft_client.evaluate(Dataset([example(0)]), models=[MODEL], perplexity=True)
    found = ft_client.evaluate(Dataset([example(0)]), models=[MODEL])
    assert "perplexity" not in found.scores[0].figures


def compared(n: int, *, mended: int, broken: int) -> Comparison:
    questions = questions_of([example(number) for number in range(n)])
    right = [question.expected for question in questions]
    first = ["" if at < mended else text for at, text in enumerate(right)]
    other = ["" if mended <= at < mended + broken else text for at, text in enumerate(right)]
    given = {"a": [Answer(text=text) for text in first], "b": [Answer(text=text) for text in other]}
    return Comparison(questions=questions, given=given)


def test_a_comparison_names_what_was_mended_and_broken_and_whether_it_is_chance():
    (real,) = compared(30, mended=12, broken=1).differences
    assert (list(real.mended), list(real.broken)) == (list(range(12)), [12])
    assert real.is_real
    assert real.interval.low > 0
    (chance,) = compared(30, mended=3, broken=2).differences
    assert not chance.is_real


def test_facts_are_compared_by_what_contains_them_and_shared_words_stand_beside():
    facts = [f"At {number + 100} yen." for number in range(12)]
    questions = questions_of([example(number, text) for number, text in enumerate(facts)])
    given = {
        "listing": [Answer(text=" ".join(facts))] * 12,
        "talking": [Answer(text=f"Thank you for asking! I think that it is {text[3:-1]} at most.") for text in facts],
    }
    found = Comparison(questions=questions, given=given)
    (difference,) = found.differences
    assert (difference.metric, difference.test) == ("contains_answer", "McNemar's exact test")
    assert [score.figures["contains_answer"].value for score in found.scores] == [0.0, 1.0]
    assert difference.is_real
    assert list(difference.mended) == list(range(12))
    listing, talking = (score.figures["shared_words"].value for score in found.scores)
    assert 0 < listing < talking < 0.5  # which would call all of them wrong


def test_labels_are_tested_by_mcnemar():
    rows = [example(number, ["red", "green"][number % 2]) for number in range(20)]
    questions = questions_of(rows)
    first = [Answer(text="red") for _ in rows]
    other = [Answer(text=question.expected) for question in questions]
    found = Comparison(questions=questions, given={"a": first, "b": other})
    (difference,) = found.differences
    assert difference.test == "McNemar's exact test"
    assert difference.p_value == pytest.approx(2 / 2**10)
    score = found.scores[0]
    assert (score.figures["accuracy"].value, score.figures["macro_f1"].value) == (0.5, pytest.approx(1 / 3))
    assert score.figures["accuracy"].interval == pytest.approx((0.2993, 0.7007), abs=1e-4)


def figures_of(expected: list[str], given: list[str]) -> dict[str, Figure]:
    questions = questions_of([example(number, text) for number, text in enumerate(expected)])
    (score,) = Comparison(questions=questions, given={"m": [Answer(text=text) for text in given]}).scores
    return dict(score.figures)


def test_no_figure_is_shown_as_certain():
    tickets = ['{"queue": "TIP", "product": 1}'] * 30
    certain = stats.wilson(30, 30)
    for given, value, interval in ((tickets, 1.0, certain), (["no JSON"] * 30, 0.0, stats.wilson(0, 30))):
        found = figures_of(tickets, given)["field_accuracy"]
        assert (found.value, found.interval) == (value, pytest.approx(interval))
    half = figures_of(tickets, ['{"queue": "TIP"}'] * 30)["field_accuracy"]
    assert half.interval.low < 0.45 < half.value < 0.55 < half.interval.high
    labels = ["red", "green"] * 15
    assert figures_of(labels, labels)["macro_f1"].interval == pytest.approx(certain)
    assert figures_of(labels, ["?"] * 30)["macro_f1"].interval == pytest.approx(stats.wilson(0, 30))
    rare = ["red"] * 28 + ["green"] * 2
    assert figures_of(rare, rare)["macro_f1"].interval.low < 0.7 < figures_of(rare, rare)["accuracy"].interval.low


def test_no_difference_is_shown_as_certain():
    (same,) = compared(30, mended=0, broken=0).differences
    assert same.interval == pytest.approx((-same.interval.high, 0.1135), abs=1e-4)
    (all_mended,) = compared(30, mended=30, broken=0).differences
    assert all_mended.interval == pytest.approx((0.7729, 1.0), abs=1e-4)
    assert all_mended.is_real
    (few,) = compared(3, mended=3, broken=0).differences
    assert not few.is_real


def test_rewards_keep_to_the_graders_range_where_they_do():
    score = {"type": "score_model", "model": "m", "range": [1, 5], "input": [{"role": "user", "content": "?"}]}
    code = {"type": "python", "source": "def grade(sample, item): return 3"}
    questions = questions_of([example(number) for number in range(30)])
    for grader, low in ((score, 5 - 4 * 0.1135), (code, 5.0)):
        rewards = Measured(metric=metric_of(parse_grader(grader)), values={"m": [5.0] * 30})
        given = {"m": [Answer(text="")] * 30}
        (found,) = Comparison(questions=questions, given=given, extra=[rewards], leads=True).scores
        assert found.figures["grader"].interval == pytest.approx((low, 5.0), abs=1e-3)


def test_answers_are_kept_for_their_owner_alone_and_damage_is_told(tmp_path):
    with AnswerStore(tmp_path / "home") as store:
        store.keep("k", Answer(text="犬", seconds=1.0, prompt_tokens=3), model="m")
        assert store.get("k") == Answer(text="犬", seconds=1.0, prompt_tokens=3, calls=[])
        assert store.get("other") is None
        store.keep("k", Answer(text="\ud83d half a pair\x00"), model="m")
        assert store.get("k").text == "\ud83d half a pair\x00"
    path = tmp_path / "home" / "client.db"
    assert path.stat().st_mode & 0o777 == 0o600
    db = sqlite3.connect(path)
    with db:
        db.execute("UPDATE answers_meta SET version = 99")
    db.close()
    with pytest.raises(FtclientError, match="written by another version"):
        AnswerStore(tmp_path / "home")
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(FtclientError, match="cannot be used"):
        AnswerStore(tmp_path / "home")


def test_the_pace_halves_when_asked_for_quiet_and_comes_back():
    pace, began = Pace(8), time.monotonic()
    first = pace.be_quiet(0.1, began=began)
    assert first is not None
    assert (first.number, first.seconds) == (1, 0.1)
    assert pace.be_quiet(0.1, began=began) is None, "those that were under way together count once"
    assert pace.limit == 4
    started = time.monotonic()
    with pace.turn() as goes_on:
        assert goes_on
        assert time.monotonic() - started >= 0.09
    for _ in range(60):
        pace.went_well()
    assert pace.limit == 8


def test_pauses_in_a_row_are_counted_and_grow_until_an_answer_comes():
    pace, later = Pace(8), time.monotonic() + 1000  # as if each question were asked after all pauses
    found = [pace.be_quiet(began=later + n) for n in range(4)]
    assert [pause.number for pause in found] == [1, 2, 3, 4]
    for pause in found:
        assert 0.75 * 0.5 * 2 ** (pause.number - 1) <= pause.seconds <= 0.5 * 2 ** (pause.number - 1)
    pace.went_well()
    again = pace.be_quiet(began=later + 5)
    assert (again.number, again.seconds <= 0.5) == (1, True)


def test_nobody_waits_for_a_turn_that_will_not_come():
    pace, seen = Pace(1), []

    def wait() -> None:
        with pace.turn() as goes_on:
            seen.append(goes_on)

    with pace.turn():
        thread = threading.Thread(target=wait)
        thread.start()
        pace.end()
        thread.join(timeout=10)
        assert seen == [False]


def test_wishes_know_no_others():
    with pytest.raises(TypeError, match="temperature"):
        Wishes(temperature=1)
