"""The demo's letters are what their description promises: checked, balanced, distinct, alike in both languages."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from itertools import combinations

import pytest

from ftclient.data import Dataset
from ftclient.data.duplicates import fingerprint, jaccard
from ftclient.demo import LANGUAGES, Language, dataset_path

QUEUES = {"SEC", "KEY", "RMA", "LOG", "PAY", "FIX", "TIP"}
PRODUCTS = {"K20", "L35", "V80", "A50", "S10", "none"}
NAMES = {
    "en": {"K20": "kettle", "L35": "lamp", "V80": "vacuum", "A50": "purifier", "S10": "scale"},
    "ja": {"K20": "ケトル", "L35": "ランプ", "V80": "掃除機", "A50": "空気清浄機", "S10": "はかり|スケール"},
}


def letters(lang: Language) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each letter with its ticket."""
    for example in Dataset.read(dataset_path(lang)):
        system, user, assistant = example["messages"]
        assert [system["role"], user["role"], assistant["role"]] == ["system", "user", "assistant"]
        yield user["content"], json.loads(assistant["content"])


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_check_finds_nothing(lang: Language) -> None:
    report = Dataset.read(dataset_path(lang)).check()
    assert report.ok
    assert list(report.issues) == []


@pytest.mark.parametrize("lang", LANGUAGES)
def test_tickets_use_the_companys_codes_and_classes_are_balanced(lang: Language) -> None:
    tickets = [ticket for _, ticket in letters(lang)]
    assert all(list(ticket) == ["queue", "product", "priority"] for ticket in tickets)
    queues, products, priorities = (Counter(each[key] for each in tickets) for key in ("queue", "product", "priority"))
    assert set(queues) == QUEUES
    assert set(products) == PRODUCTS
    assert set(priorities) == {"P1", "P2", "P3"}
    assert min(queues.values()) >= 25
    assert min(products.values()) >= 40
    assert min(priorities.values()) >= 45


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_product_is_the_one_that_the_letter_names(lang: Language) -> None:
    for letter, ticket in letters(lang):
        named = {code for code, names in NAMES[lang].items() if any(name in letter for name in names.split("|"))}
        assert named == ({ticket["product"]} - {"none"}), letter


@pytest.mark.parametrize("lang", LANGUAGES)
def test_questions_are_p3_and_nothing_else_is(lang: Language) -> None:
    for letter, ticket in letters(lang):
        assert (ticket["priority"] == "P3") == letter.endswith(("?", "か。")), letter


@pytest.mark.parametrize("lang", LANGUAGES)
def test_dangers_come_first(lang: Language) -> None:
    """Letters about fraud are all P1; apart from them only broken devices are."""
    for letter, ticket in letters(lang):
        assert ticket["queue"] != "SEC" or ticket["priority"] == "P1", letter
        assert ticket["priority"] != "P1" or ticket["queue"] in {"SEC", "FIX"}, letter


@pytest.mark.parametrize("lang", LANGUAGES)
def test_no_letter_repeats_another(lang: Language) -> None:
    prints = [(letter, fingerprint(letter)) for letter, _ in letters(lang)]
    for (one, print_one), (other, print_other) in combinations(prints, 2):
        assert one != other
        assert jaccard(print_one, print_other) < 0.8, (one, other)


def test_the_japanese_letters_have_the_same_tickets_line_by_line() -> None:
    english, japanese = list(letters("en")), list(letters("ja"))
    assert len(english) == len(japanese) == 300
    assert [ticket for _, ticket in english] == [ticket for _, ticket in japanese]


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_split_leaves_thirty_letters_to_test_on(lang: Language) -> None:
    parts = Dataset.read(dataset_path(lang)).split(0.8, 0.1, 0.1, seed=7)
    assert [len(part) for part in parts] == [240, 30, 30]


def test_an_unknown_language_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="en and ja, not 'fr'"):
        dataset_path("fr")  # type: ignore[arg-type]
