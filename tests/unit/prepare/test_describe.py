"""Describing: each topic finds what was planted, and the verdict puts the worst first."""

from __future__ import annotations

import itertools
import json
import random
import re
import subprocess
import sys
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from ftclient.data import Dataset, Limits
from ftclient.data.describe import LANGS, Token, describe
from ftclient.data.describe.description import histogram
from ftclient.data.describe.words import _WORDS
from ftclient.data.tokens import count_example

ROOT = Path(__file__).parents[3]
TOPICS = ("late", "broken", "wrong", "missing", "twice", "cold")
NOUNS = ("parcel", "tea pot", "cup", "invoice", "order", "refund", "box", "label", "courier", "spoon")
TEAMS = ("delivery", "billing", "returns")


def sound(n: int = 60) -> list[dict]:
    """Mails that have nothing wrong with them: three labels, evenly; no two alike."""
    rng = random.Random(0)
    mails = []
    for at in range(n):
        first, second, third = rng.sample(NOUNS, 3)
        what, how = rng.choices(TOPICS, k=2)
        text = f"My {first} number {at} is {what}, and the {second} with the {third} came {how}"
        mails.append(chat(text, TEAMS[at % 3]))
    return mails


def chat(user: str, assistant: str, **more: object) -> dict:
    messages = [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]
    return {"messages": [{"role": "system", "content": "Name the team."}, *messages], **more}


def codes(description) -> list[str]:
    return [advice.code for advice in description.verdict]


def found_in(examples, **options):
    return describe(examples, **options)


def test_sound_data_get_no_advice():
    description = describe(sound())
    assert codes(description) == []
    assert description.found["labels"][0]["balance"] == 1.0
    assert description.found["languages"]["prompts"] == {"en": 1.0}
    assert description.found["turns"] == {1: 60}


@pytest.mark.parametrize(
    ("examples", "code", "lines"),
    [
        (sound()[:20], "few_examples", ()),
        ([*sound(), sound()[0]], "duplicates", (1, 61)),
        ([*sound(), chat(sound()[4]["messages"][1]["content"], "other")], "ambiguous", (5, 61)),
        ([*sound(), chat("Write to ann@example.com please, she waits for it", "billing")], "personal_data", (61,)),
        ([*sound(), chat("Password: kettle4Sencha is what I typed in there", "billing")], "secrets", (61,)),
        ([*sound(), chat("Itâ€™s a pity that the cafÃ© is closed again today", "billing")], "garbled", (61,)),
        ([*sound(), chat("A short story about everything. " * 300, "billing")], "outliers", (61,)),
        ([*sound(), chat("The invoice names the wrong company, can you help", "Billing")], "label_variants", ()),
        ([*sound(), chat("Nobody ever asked for this kind of thing before", "legal")], "rare_labels", ()),
        ([*sound(), *[chat(f"Delivery question {at} about street {at * 7}", "delivery") for at in range(90)]],
         "unbalanced", ()),
        ([*sound(), {"messages": [{"role": "user", "content": "Nothing to learn"}]}], "errors", ()),
    ],
)  # fmt: skip
def test_what_was_planted_is_advised_about(examples, code, lines):
    description = describe(examples)
    assert code in codes(description)
    advice = next(advice for advice in description.verdict if advice.code == code)
    assert set(lines) <= set(advice.lines)
    assert all(advice.text(lang) for lang in LANGS)


def test_the_worst_comes_first():
    planted = [*sound(), sound()[0], chat("Password: kettle4Sencha is what I typed in there", "billing")]
    ranks = [advice.rank for advice in describe(planted).verdict]
    assert ranks == sorted(ranks)
    assert ranks[0] == 1


def test_nearly_the_same_prompt_with_another_label_is_ambiguous():
    text = "The courier left my parcel with a neighbour who does not know anything about it and I want it"
    description = describe([*sound(), chat(text, "delivery"), chat(f"{text} back", "returns")])
    (case,) = description.found["ambiguity"]["near_prompt"]
    assert case["lines"] == [61, 62]
    assert case["answers"] == [{"answer": "delivery", "n": 1}, {"answer": "returns", "n": 1}]


def test_the_same_prompt_under_other_instructions_is_not_ambiguous():
    two = [chat("Where is it?", "delivery"), chat("Where is it?", "billing")]
    two[1]["messages"][0]["content"] = "Name another team."
    assert describe([*sound(), *two]).found["ambiguity"]["n_same_prompt"] == 0


def json_mails(n: int = 60) -> list[dict]:
    return [
        chat(mail["messages"][1]["content"], json.dumps({"team": TEAMS[at % 3], "number": at}))
        for at, mail in enumerate(sound(n))
    ]


def test_answers_in_json_with_another_schema_are_named_with_the_difference():
    drifted = [
        chat("One with the wrong type of the number in its answer", '{"team": "billing", "number": "3"}'),
        chat("One without the number but with a note in its answer", '{"team": "billing", "note": null}'),
        chat("One that is cut off in the middle of its answer", '{"team": "billing", "num'),
        chat("One that is answered in words by somebody", "I think that this is billing."),
    ]
    found = describe([*json_mails(), *drifted])
    answers = found.found["answer_format"]
    assert answers["schema"] == [{"key": "number", "type": "number"}, {"key": "team", "type": "string"}]
    assert answers["drift"] == [
        {"line": 61, "difference": "number is string, not number"},
        {"line": 62, "difference": "no number; extra note"},
    ]
    assert (answers["invalid_lines"], answers["not_json_lines"]) == ([63], [64])
    assert {"schema_drift", "invalid_json", "not_json"} <= set(codes(found))


def test_fields_of_json_answers_are_balanced_one_by_one():
    """The whole objects are all different; their fields are what is learnt."""
    answers = [{"team": TEAMS[at % 3], "urgent": at % 10 == 0, "note": f"number {at}", "id": at} for at in range(60)]
    mails = [
        chat(mail["messages"][1]["content"], json.dumps(answer)) for mail, answer in zip(sound(), answers, strict=True)
    ]
    description = describe(mails)
    sets = {labels["field"]: labels for labels in description.found["labels"]}
    assert sets.keys() == {"team", "urgent"}
    assert sets["team"]["balance"] == 1.0
    assert sets["urgent"]["counts"] == [{"label": "false", "n": 54}, {"label": "true", "n": 6}]
    (advice,) = [advice for advice in description.verdict if advice.code == "unbalanced"]
    assert advice.numbers["label"] == "urgent: false"


def test_the_answers_of_a_preference_pair_are_told_apart():
    good, bad = ({"role": "assistant", "content": text} for text in ("good", "bad"))
    pair = {
        "input": {"messages": [{"role": "user", "content": "q"}]},
        "preferred_output": [good],
        "non_preferred_output": [bad],
    }
    (shown,) = describe([pair], method="dpo").found["trained"]
    assert (
        "".join(token["text"] for token in shown["tokens"])
        == "[user] q\n[assistant, preferred] good\n[assistant, other] bad"
    )


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry, but I can't help with that.",
        "As an AI language model, I ...",
        "申し訳ありませんが、お答えできません。",
    ],
)
def test_refusals_are_counted(answer):
    found = describe([*sound(), chat("Please tell me how to do it right away", answer), chat("And now?", answer)])
    assert found.found["refusals"] == {"n": 2, "share": round(2 / 62, 4), "lines": [61, 62]}


def test_languages_of_prompts_and_answers():
    mixed = [chat("Wo ist mein Paket geblieben? Ich warte seit einer Woche.", "配送について確認いたします。")] * 2
    mixed += [chat("荷物がまだ届きません。いつ届きますか。", "It is on its way and will reach you soon.")]
    languages = describe([*sound(9), *mixed]).found["languages"]
    assert languages["prompts"] == {"en": 0.75, "de": 0.1667, "ja": 0.0833}
    assert languages["crossed_lines"] == [10, 11, 12]


def test_without_the_extra_scripts_are_told_and_it_is_said():
    """Run in a process that cannot import py3langid, as in a base installation."""
    code = (
        "import sys; sys.modules['py3langid'] = None; sys.modules['py3langid.langid'] = None\n"
        "from ftclient.data.describe import describe\n"
        "from tests.unit.prepare.test_describe import chat, sound\n"
        "import rich; d = describe([*sound(3), chat('荷物がまだ届きません。', 'delivery')])\n"
        "print(d.found['languages']['prompts']); rich.print(d)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.startswith("{'Latn': 0.75, 'ja': 0.25}\n")
    assert 'pip install "ftclient[data]"' in done.stdout


def test_labels_that_only_one_language_has_are_skewed():
    ja = "番の荷物について質問があります。よろしくお願いします。"
    examples = [chat(f"{at}{ja}", "returns") for at in range(30)]
    examples += [chat(f"{at}{ja}", "billing") for at in range(30, 45)]
    examples += [mail for mail in sound(90) if mail["messages"][-1]["content"] != "returns"]
    skewed = describe(examples).found["labels"][0]["skewed"]
    assert {"label": "returns", "language": "ja", "n": 30} in skewed


def test_tokens_and_lengths():
    description = describe(sound(), limits=Limits(context_tokens=30))
    tokens = description.found["tokens"]
    assert sum(entry["n"] for entry in tokens["histogram"]) == 60
    assert tokens["histogram"][-1]["to"] == tokens["per_example"]["max"]
    assert tokens["n_too_long"] == sum(tokens["per_example"]["max"] > 30 for _ in range(1)) * tokens["n_too_long"] > 0
    assert {"too_long"} <= set(codes(description))


def test_trained_tokens_are_those_of_the_assistant_without_weight_0():
    turns = ["user", "assistant", "user", "assistant"]
    messages = [{"role": role, "content": f"{role} number {at}"} for at, role in enumerate(turns)]
    messages[1]["weight"] = 0
    (shown,) = describe([{"messages": messages}]).found["trained"]
    trained = "".join(token["text"] for token in shown["tokens"] if token["weight"] > 0)
    assert trained == "assistant number 3"
    assert "".join(token["text"] for token in shown["tokens"]).count("number") == 4
    assert shown["n_trained"] == count_example({"messages": messages}).trained


def test_letters_of_several_tokens_are_shown_whole():
    (shown,) = describe([chat("𠮷野家の🧋は？", "𩸽 👩\u200d🚀")]).found["trained"]
    text = "".join(token["text"] for token in shown["tokens"])
    assert "𠮷野家の🧋は？" in text
    assert "𩸽 👩\u200d🚀" in text
    assert "\ufffd" not in text


def test_another_renderer_can_be_given():
    render = lambda example: [Token("<s>", 0.0), Token(example["messages"][-1]["content"], 1.0)]  # noqa: E731
    shown = describe(sound(), model="smollm2-135m", render=render).found["trained"]
    assert [(entry["n_tokens"], entry["n_trained"]) for entry in shown] == [(2, 1)] * 3


def test_lines_are_those_of_the_file(tmp_path: Path):
    lines = [json.dumps(example) for example in sound(55)]
    (tmp_path / "a.jsonl").write_text("\n\n".join([*lines[:2], "broken", *lines[2:], lines[0]]))
    description = describe(tmp_path / "a.jsonl")
    assert description.source == "a.jsonl"
    assert description.found["check"]["by_code"] == {"blank_line": 56, "json_syntax": 1}
    assert description.found["duplicates"]["exact"][0]["lines"] == [1, 113]


def test_a_dataset_and_its_file_are_described_alike(tmp_path: Path):
    data = Dataset(sound())
    assert describe(data).found == describe(data.write(tmp_path / "a.jsonl")).found == describe(sound()).found


def test_personal_data_is_in_no_output(tmp_path: Path):
    secrets = ("ann.marsh@example.com", "090-1234-5678", "kettle4Sencha", "4242 4242 4242 4242")
    planted = [chat(f"Please use this here, Password: {value}", f"Noted, password: {value}") for value in secrets]
    description = describe([*planted, *planted, *sound()])
    screen = StringIO()
    Console(file=screen, width=200).print(description)
    page = description.write_html(tmp_path / "a.html").read_text()
    for output in (json.dumps(description.to_json()), screen.getvalue(), page):
        for value in secrets:
            assert value not in output


class Page(HTMLParser):
    """Collects what a page loads and how its tags nest."""

    EMPTY = frozenset({"meta", "rect", "line", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.loads += [f"{tag} {name}" for name, value in attrs if name in {"src", "href", "srcset", "data", "action"}]
        if tag in {"script", "link", "iframe", "object", "img"} or any(name.startswith("on") for name, _ in attrs):
            self.loads.append(tag)
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.EMPTY:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_data(self, data):
        self.text.append(data)


@pytest.mark.parametrize("lang", LANGS)
def test_the_page_stands_alone_and_shows_data_as_text(tmp_path: Path, lang: str):
    attack = '<img src=x onerror="alert(1)"></style></title><script>alert(2)</script>'
    examples = [*sound(), chat(attack, "billing"), chat(attack, attack), *json_mails(3), chat("x " * 4000, "billing")]
    html = describe(examples, model="gpt-4.1-mini").write_html(tmp_path / "a.html", lang=lang).read_text()
    page = Page()
    page.feed(html)
    assert page.open == []
    assert page.loads == []
    assert "http" not in re.sub(r'http-equiv="[^"]+"', "", html)
    assert f'<html lang="{lang}">' in html
    assert "onerror" in "".join(page.text)
    assert html.count("<svg") >= 4


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_terminal_shows_the_verdict_first(width: int):
    screen = StringIO()
    description = describe([*sound(), sound()[0], chat("[bold]not markup[/bold] asked twice", "[red]x[/red]")])
    Console(file=screen, width=width, color_system=None, legacy_windows=False).print(description)
    shown = screen.getvalue()
    assert max(map(len, shown.splitlines())) <= width
    assert shown.index("What to mend first") < shown.index("Tokens by role")
    assert "1." in shown


@pytest.mark.parametrize(("n", "words"), [(1, ("1", "example")), (2, ("2", "examples"))])
def test_one_of_a_kind_is_not_many(tmp_path: Path, n: int, words: tuple[str, str]):
    description = describe(sound(n))
    number, noun = words
    assert f"<b>{number}</b><span>{noun}</span>" in description.write_html(tmp_path / "a.html").read_text("utf-8")
    screen = StringIO()
    Console(file=screen, width=200, color_system=None, legacy_windows=False).print(description)
    assert screen.getvalue().splitlines()[0].endswith(f": {number} {noun}")


def test_empty_and_hopeless_files_are_described(tmp_path: Path):
    for content in (
        b"",
        b"\n\n",
        b"broken\nlines\n",
        b'{"messages": []}\n{"a": [1]}\n{"messages": [null, 4, {"role": 3}]}\n',
    ):
        (tmp_path / "a.jsonl").write_bytes(content)
        description = describe(tmp_path / "a.jsonl")
        assert "errors" in codes(description)
        description.write_html(tmp_path / "a.html")
        Console(file=StringIO()).print(description)
        json.dumps(description.to_json())


def test_histograms_have_at_most_twenty_bins_and_lose_nothing():
    for values in ([], [5], [1, 1000], list(range(100)), [3] * 50 + [9000]):
        bins = histogram(values)
        assert len(bins) <= 20
        assert sum(entry["n"] for entry in bins) == len(values)
        for one, other in itertools.pairwise(bins):
            assert one["to"] + 1 == other["from"]


def test_every_phrase_has_the_same_numbers_in_both_languages():
    for key, phrases in _WORDS.items():
        fields = [set(re.findall(r"\{(\w+)", phrase)) for phrase in phrases]
        assert fields[0] == fields[1], key
