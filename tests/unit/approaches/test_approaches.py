"""Whether to tune at all: prompts, outcomes, verdicts, and the command on the simulated backend."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path

import pytest
from rich.console import Console

from ftclient import Client, Dataset
from ftclient.approaches import Audience, LearningCurve, Outcomes, Wishes, compare, learning_curve
from ftclient.approaches.learning_curve import Point, nested, twice
from ftclient.approaches.prompts import choose_shots, with_shots
from ftclient.approaches.training import Trained
from ftclient.approaches.wishes import ApproachName
from ftclient.cli.main import main
from ftclient.cost.plan import Plan
from ftclient.errors import BudgetError, DataError, UnsupportedError
from ftclient.evaluate.compare import Comparison, Figure
from ftclient.evaluate.questions import Answer, Question, questions_of
from ftclient.evaluate.retrieval.index import Hit
from ftclient.evaluate.retrieval.passages import Passage
from ftclient.evaluate.stats import Interval

Run = Callable[..., tuple[object, str]]

N = 40
LABELS = ("praise", "complaint")


def example(text: str, answer: str, **more: str) -> dict[str, object]:
    """One example of a chat file."""
    messages = [{"role": "system", "content": "Label."}, {"role": "user", "content": text}]
    return {"messages": [*messages, {"role": "assistant", "content": answer}], **more}


def outcomes(rights: dict[ApproachName, int], *, n: int = N) -> Outcomes:
    """Outcomes in which each approach got the first so many of n questions right."""
    questions = questions_of([example(f"text {number}", LABELS[number % 2]) for number in range(n)])
    given = {
        name: [
            Answer(text=question.expected if number < n_right else "?", prompt_tokens=10, answer_tokens=1, seconds=1.0)
            for number, question in enumerate(questions)
        ]
        for name, n_right in rights.items()
    }
    trained = {
        name: Trained(model=f"ft:{name}", job_id="ftjob-1", seconds=60, cost_usd=Decimal(0), trained_tokens=9)
        for name in rights
        if name in {"head", "lora", "full"}
    }
    return Outcomes(
        comparison=Comparison(questions=questions, given=dict(given), costs_usd=dict.fromkeys(given, Decimal(2))),
        models=dict.fromkeys(rights, "m"),
        trained=trained,
    )


def test_equals_are_ranked_by_effort_and_shares_are_counted() -> None:
    found = outcomes({"base": 10, "lora": 30, "full": 30})
    assert [each.name for each in found.outcomes] == ["lora", "full", "base"]
    assert [each.alone for each in found.outcomes] == [0, 0, 0]
    assert outcomes({"base": 10, "lora": 30}).outcome("lora").alone == pytest.approx(0.5)
    lora = found.outcome("lora")
    assert lora.call_usd == Decimal(2) / N
    assert (lora.prompt_tokens, lora.latency_s) == (10, 1.0)
    assert lora.figure.interval.low < 0.75 < lora.figure.interval.high


def test_examples_of_all_answers_come_into_the_prompt() -> None:
    many = questions_of([*(example("x" * n, "praise") for n in range(1, 9)), example("a long one" * 9, "complaint")])
    shots = choose_shots(many, 3)
    assert [shot.expected for shot in shots] == ["praise", "complaint", "praise"]
    messages = with_shots(many[0], shots)
    assert [each["role"] for each in messages] == ["system", *["user", "assistant"] * 3, "user"]
    assert messages[-1] == {"role": "user", "content": "x"}
    assert choose_shots(many, 0) == []


def test_examples_cite_the_passage_that_has_their_answer() -> None:
    def find(question: Question) -> list[Hit]:
        texts = ("Nothing of use here.", "The card costs 5 euros.") if question.text == "Card?" else ("Other.",)
        return [
            Hit(
                passage=Passage(document="a.md", number=number, heading="", text=text),
                score=1,
                word_rank=1,
                meaning_rank=None,
            )
            for number, text in enumerate(texts, start=1)
        ]

    shot, asked = questions_of([example("Card?", "5 euros"), example("Door?", "code 7")])
    messages = with_shots(asked, [shot], shown=find)
    assert messages[2] == {"role": "assistant", "content": "5 euros [2]"}
    assert "[1] Other." in messages[-1]["content"]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Training data, test questions that name their source, and documents."""
    train, test, docs = tmp_path / "train.jsonl", tmp_path / "test.jsonl", tmp_path / "docs"
    train.write_text("".join(json.dumps(example(f"question {n}", f"answer {n}")) + "\n" for n in range(12)))
    test.write_text(
        json.dumps(example("What does a card cost?", "5 euros", source="cards.md"))
        + "\n"
        + json.dumps(example("Where is the door?", "In hall A", source="none.md"))
        + "\n"
    )
    docs.mkdir()
    (docs / "cards.md").write_text("# Cards\n\nA card costs 5 euros.\n")
    return train, test, docs


def test_every_approach_is_tried_once(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    train, test, docs = files
    told: list[str] = []
    with Client.local(home=tmp_path / "home", engine="simulated") as client:
        first = compare(
            client,
            Dataset.read(train),
            Dataset.read(test),
            model="smollm2-135m",
            wishes=Wishes(docs=docs),
            audience=Audience(tell=told.append),
        )
        again = compare(client, Dataset.read(train), Dataset.read(test), model="smollm2-135m", wishes=Wishes(docs=docs))
        assert len(client.jobs()) == 2, "jobs are found again"
    assert set(first.comparison.given) == {"base", "examples", "rag", "lora", "full"}
    assert "classification" in first.skipped["head"]
    assert {name: job.job_id for name, job in first.trained.items()} == {
        name: job.job_id for name, job in again.trained.items()
    }
    assert all(answer.is_stored for given in again.comparison.given.values() for answer in given)
    assert first.ranking is not None
    assert (first.ranking.n_questions, first.ranking.hit_rate) == (2, 0.5)
    assert any(text.startswith("Training") for text in told)
    page = first.to_html(tmp_path / "page.html", title="test")
    assert "examples" in page
    kept = json.loads(json.dumps(first.to_json(), default=str))
    assert {each["approach"] for each in kept["outcomes"]} == set(first.comparison.given)
    assert kept["retrieval"]["n_documents"] == 1


def test_test_questions_that_were_trained_on_are_counted(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    train, test, _docs = files
    test.write_text(test.read_text() + train.read_text())
    with Client.local(home=tmp_path / "home", engine="simulated") as client:
        data = Dataset.read(train), Dataset.read(test)
        found = compare(client, *data, model="smollm2-135m", wishes=Wishes(approaches=("base",)))
    assert found.to_json()["n_seen"] == 12
    assert "12 of the 14 test questions are in the training data" in " ".join(found.verdict.reasons)


def test_nothing_starts_before_somebody_has_agreed(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    train, test, _docs = files
    train.write_text("".join(json.dumps(example(f"question {n}", f"answer {n}")) + "\n" for n in range(30)))

    def refuse(plans: Sequence[Plan]) -> None:
        raise BudgetError(f"{len(plans)} jobs")

    with Client.local(home=tmp_path / "home", engine="simulated") as client:
        data = Dataset.read(train), Dataset.read(test)
        with pytest.raises(BudgetError, match="2 jobs"):
            compare(client, *data, model="smollm2-135m", audience=Audience(agree=refuse))
        with pytest.raises(BudgetError, match="2 jobs"):
            learning_curve(client, *data, model="smollm2-135m", fractions=(0.5, 1), audience=Audience(agree=refuse))
        assert client.jobs() == []


@pytest.fixture
def hosted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `ftclient compare` at a hosted backend that cannot be reached; returns exit code and what was said."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")

    def run(*arguments: str) -> tuple[object, str]:
        given = ["compare", *arguments, "--model", "gpt-4.1-mini", "--backend", "openai"]
        monkeypatch.setattr("sys.argv", ["ftclient", *given, "--home", str(tmp_path / "home")])
        with pytest.raises(SystemExit) as left:
            main()
        return left.value.code, " ".join(capsys.readouterr().err.replace("│", " ").split())

    return run


def test_jobs_that_cost_money_need_a_yes_where_nobody_can_be_asked(files: tuple[Path, Path, Path], hosted: Run) -> None:
    train, test, _docs = files
    code, said = hosted(str(train), str(test), "--only", "lora")
    assert code == 1
    assert "charges for 1 training job ($" in said
    assert "Pass --yes" in said


def test_what_was_asked_for_by_name_is_not_skipped_in_silence(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    train, test, _docs = files
    with Client.local(home=tmp_path / "home", engine="simulated") as client:
        data = Dataset.read(train), Dataset.read(test)
        with pytest.raises(UnsupportedError, match="--docs"):
            compare(client, *data, model="smollm2-135m", wishes=Wishes(approaches=("base", "rag")))
        with pytest.raises(DataError, match="no such folder"):
            compare(client, *data, model="smollm2-135m", wishes=Wishes(docs=tmp_path / "none"))
    hosted = Client.at("https://host.example/v1", api_key="k", home=tmp_path / "home")
    with hosted, pytest.raises(UnsupportedError):
        compare(hosted, *data, model="m", wishes=Wishes(approaches=("full",)))


def test_parts_grow_into_each_other() -> None:
    data = Dataset([example(f"q{n}", "a") for n in range(40)])
    small, large, whole = ([str(each["messages"]) for each in part] for part in nested(data, (1, 0.25, 0.5), seed=3))
    assert (len(small), len(large), len(whole)) == (10, 20, 40)
    assert set(small) < set(large) < set(whole)
    with pytest.raises(ValueError, match="fewer than two parts"):
        nested(data, (0.1, 1), seed=3)


def curve(first: float, last: float, p_value: float) -> LearningCurve:
    """A learning curve of two points."""
    figures = [Figure(value=value, interval=Interval(value - 0.05, value + 0.05)) for value in (first, last)]
    points = [Point(n_examples=n, model="m", figure=each) for n, each in zip((100, 200), figures, strict=True)]
    return LearningCurve(
        approach="lora",
        metric="accuracy",
        points=points,
        p_value=p_value,
        twice=twice(*points),
        n_questions=40,
        n_seen=0,
    )


def test_a_learning_curve_says_whether_more_data_would_help() -> None:
    assert "more data would help" in curve(0.6, 0.8, 0.001).advice
    assert "about 90%" in curve(0.6, 0.8, 0.001).advice, "errors halve with each doubling: 40, 20, 10 %"
    assert "may be chance" in curve(0.6, 0.62, 0.4).advice
    assert "bring little" in curve(0.97, 0.98, 0.01).advice


def test_a_learning_curve_is_trained_and_found_again(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    train, test, _docs = files
    train.write_text("".join(json.dumps(example(f"question {n}", f"answer {n}")) + "\n" for n in range(30)))
    data = Dataset.read(train), Dataset.read(test)
    with Client.local(home=tmp_path / "home", engine="simulated") as client:
        found = learning_curve(client, *data, model="smollm2-135m", fractions=(0.5, 1))
        again = learning_curve(client, *data, model="smollm2-135m", fractions=(0.5, 1))
        assert len(client.jobs()) == 2
    assert [point.n_examples for point in found.points] == [15, 30]
    assert found.to_json() == again.to_json()


def test_whoever_compares_is_told_that_a_host_does_not_answer(
    files: tuple[Path, Path, Path], hosted: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ftclient.evaluate.pace._FIRST_PAUSE_S", 0.02)
    train, test, _docs = files
    code, said = hosted(str(train), str(test), "--only", "base")
    assert code == 3
    for number in range(2, 6):
        assert f"OpenAI does not answer; trying again in 1 s ({number} of 5)." in said
    assert "Error: OpenAI cannot be reached" in said


def prices(folder: Path, **rates: dict[str, str]) -> str:
    """A file with prices of one's own, in dollars a million tokens."""
    path = folder / "prices.json"
    path.write_text(json.dumps({"format": 2, "hosts": {"openai": {"models": {"gpt-4.1-mini": rates}}}}))
    return str(path)


def test_ones_own_prices_hold_for_a_comparison_too(files: tuple[Path, Path, Path], tmp_path: Path, hosted: Run) -> None:
    train, test, _docs = files
    own = prices(tmp_path, base={"input": "1000000", "output": "1000000"})
    code, said = hosted(str(train), str(test), "--only", "base", "--max-cost", "5", "--prices", own)
    assert code == 1
    assert "more than the limit of $5" in said


def test_a_learning_curve_keeps_its_limit_with_the_answers_of_all_its_models(
    files: tuple[Path, Path, Path], tmp_path: Path, hosted: Run
) -> None:
    train, test, _docs = files
    train.write_text("".join(json.dumps(example(f"question {n}", f"answer {n}")) + "\n" for n in range(30)))
    own = prices(tmp_path, tuned={"input": "0", "output": "1000000"})
    command = [str(train), str(test), "--fractions", "0.5,1", "--prices", own]
    code, said = hosted(*command, "--max-cost", "90")
    # A dollar a token: two models, two questions, and room for "In hall A" and 16 tokens more.
    assert code == 1
    assert f"answers ${2 * 2 * (len('In hall A') + 16)}.00" in said
    found = re.search(r"may cost up to \$(\S+) \(training \$(\S+), answers", said)
    assert found is not None, said
    assert Decimal(found[1]) == round(Decimal(found[2]) + 100, 2)
    assert 0 < Decimal(found[2]) < 90, "the jobs alone would be within the limit"
    code, said = hosted(*command, "--max-cost", "101")
    assert code == 1
    assert "nobody is here to agree" in said, "within the limit, the next thing is to ask"


def test_a_learning_curve_says_which_test_questions_it_was_trained_on(
    files: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    train, test, _docs = files
    test.write_text(test.read_text() + train.read_text())
    train.write_text("".join(json.dumps(example(f"question {n}", f"answer {n}")) + "\n" for n in range(30)))
    told: list[str] = []
    with Client.local(home=tmp_path / "home", engine="simulated") as client:
        found = learning_curve(
            client,
            Dataset.read(train),
            Dataset.read(test),
            model="smollm2-135m",
            fractions=(0.1, 0.5, 1),
            audience=Audience(tell=told.append),
        )
    assert (found.n_seen, found.to_json()["n_seen"]) == (12, 12)
    assert "12 of the 14 test questions are in the training data" in " ".join(found.doubts)
    assert any(text.startswith("Left out: 1 of the fractions") for text in told)
    console = Console(width=200, file=io.StringIO())
    console.print(found)
    assert found.doubts[0] in console.file.getvalue()  # type: ignore[attr-defined]  # it is a StringIO


def test_a_learning_curve_is_of_one_way_of_training_that_the_host_and_the_data_allow(
    files: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    train, test, _docs = files
    data = Dataset.read(train), Dataset.read(test)
    with Client.local(home=tmp_path / "home", engine="simulated") as client:
        for names in (("base",), ("lora", "full")):
            with pytest.raises(ValueError, match="one of head, lora, full"):
                learning_curve(client, *data, model="m", fractions=(0.9, 1), wishes=Wishes(approaches=names))
        with pytest.raises(UnsupportedError, match="classification"):
            learning_curve(client, *data, model="m", fractions=(0.9, 1), wishes=Wishes(approaches=("head",)))
        with pytest.raises(ValueError, match="no part of the data"):
            learning_curve(client, *data, model="m", fractions=(30, 100))
    other = Client.at("https://host.example/v1", api_key="k", home=tmp_path / "home")
    with other, pytest.raises(UnsupportedError, match="does not offer it"):
        learning_curve(other, *data, model="m", fractions=(0.9, 1), wishes=Wishes(approaches=("full",)))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--only", "rag"], "add --docs DIR"),
        (["--only", "base,rag"], "add --docs DIR"),
        (["--fractions", "0.5,1", "--shots", "4"], "--shots: it does nothing for a learning curve"),
        (["--fractions", "0.5,1", "--enough", "0.8", "--passages", "2"], "--passages, --enough: it does nothing"),
        (["--fractions", "0.5,1", "--docs", "."], "--docs: it does nothing"),
        (["--fractions", "0.5,1", "--lang", "ja"], "--lang: it does nothing"),
        (["--fractions", "0.5,1", "--only", "base"], "one of head, lora, full"),
        (["--fractions", "0.5,1", "--only", "lora,full"], "one of head, lora, full"),
        (["--valid", "nowhere.jsonl"], "does not exist"),
    ],
)
def test_options_that_would_be_passed_over_are_mistakes(
    files: tuple[Path, Path, Path], hosted: Run, options: list[str], words: str
) -> None:
    train, test, _docs = files
    code, said = hosted(str(train), str(test), *options)
    assert code == 2
    assert words in said
