"""Personal data and secrets: found where their check digits agree, left alone where they are mere numbers."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from ftclient.data.redact import KINDS, find_personal_data, presidio_finder, redact
from ftclient.data.redact_patterns import my_number_check_digit
from ftclient.errors import MissingDependencyError

MY_NUMBER = "12345678901" + str(my_number_check_digit("12345678901"))


def secret(*parts: str) -> str:
    """A made-up key, put together here so that no scanner of repositories takes it for a real one."""
    return "".join(parts)


@pytest.mark.parametrize(
    ("text", "kind", "found"),
    [
        ("mail bob.smith+x@example.co.jp, please", "email", "bob.smith+x@example.co.jp"),
        ("write to ｂｏｂ＠ｅｘａｍｐｌｅ．ｃｏｍ", "email", "ｂｏｂ＠ｅｘａｍｐｌｅ．ｃｏｍ"),
        ("電話は０３－１２３４－５６７８です", "phone", "０３－１２３４－５６７８"),
        ("携帯は090-1234-5678です", "phone", "090-1234-5678"),
        ("携帯は09012345678です", "phone", "09012345678"),
        ("0120-123-456 まで", "phone", "0120-123-456"),
        ("(03)1234-5678", "phone", "(03)1234-5678"),
        ("call +81 90 1234 5678 today", "phone", "+81 90 1234 5678"),
        ("call (415) 555-2671 today", "phone", "(415) 555-2671"),
        ("paid by 4111 1111 1111 1111.", "card", "4111 1111 1111 1111"),
        ("paid by 378282246310005.", "card", "378282246310005"),
        ("to DE89 3704 0044 0532 0130 00, please", "iban", "DE89 3704 0044 0532 0130 00"),
        ("to GB82WEST12345698765432", "iban", "GB82WEST12345698765432"),
        (f"マイナンバーは{MY_NUMBER}です", "my_number", MY_NUMBER),
        (f"番号 {MY_NUMBER[:4]}-{MY_NUMBER[4:8]}-{MY_NUMBER[8:]}", "my_number",
         f"{MY_NUMBER[:4]}-{MY_NUMBER[4:8]}-{MY_NUMBER[8:]}"),
        ("ssn 536-22-1234", "us_ssn", "536-22-1234"),
        ("from 203.0.113.7 at noon", "ip_address", "203.0.113.7"),
        ("Password: kettle4Sencha", "secret", "kettle4Sencha"),
        ("パスワードは：neko2ashi!", "secret", "neko2ashi!"),
        (secret("use sk-", "proj-", "a1B2c3D4e5F6g7H8i9J0"), "secret", secret("sk-", "proj-", "a1B2c3D4e5F6g7H8i9J0")),
        (secret("AKIA", "ABCDEFGH12345678"), "secret", secret("AKIA", "ABCDEFGH12345678")),
        (secret("ghp", "_", "a1" * 18), "secret", secret("ghp", "_", "a1" * 18)),
    ],
)  # fmt: skip
def test_is_found(text, kind, found):
    (finding,) = find_personal_data(text)
    assert (finding.kind, finding.text) == (kind, found)
    assert text[finding.start : finding.end] == found


@pytest.mark.parametrize(
    "text",
    [
        "card 4111 1111 1111 1112 has a wrong check digit",
        "0000 0000 0000 0000",
        "order 2024-1234-5678 of 2024-01-15 at 12:30",
        f"order {MY_NUMBER} without a name",
        "DE89 3704 0044 0532 0130 01",
        "version 1.2.3 of 127.0.0.1 and 999.1.1.1",
        "Password: forgotten",
        "Password: [SECRET_1]",
        "price 1,234,567 yen, 3.14159, 10 to 20",
        "@mention and user@localhost",
        "注文番号は20418です。三月に届きました。",
    ],
)
def test_is_no_personal_data(text):
    assert find_personal_data(text) == []


def test_no_card_scheme_starts_with_these_digits():
    for first in "01789":
        for last in range(10):
            assert find_personal_data(f"{first}23456789012345{last}", kinds=["card"]) == []


def test_what_one_pattern_has_found_no_other_finds_again():
    key = secret("sk-", "proj-", "a1B2c3D4e5F6g7H8i9J0")
    (finding,) = find_personal_data(f"Authorization: Bearer {key}")
    assert finding.kind == "secret"
    assert redact(f"api_key: {key}, {key}") == "api_key: [SECRET_1], [SECRET_1]"


def test_a_value_keeps_its_placeholder_and_others_get_their_own():
    assert redact("a@x.example b@x.example a@x.example") == "[EMAIL_1] [EMAIL_2] [EMAIL_1]"
    seen: dict[str, str] = {}
    assert (
        redact("a@x.example", seen=seen) + redact("b@x.example a@x.example", seen=seen)
        == "[EMAIL_1][EMAIL_2] [EMAIL_1]"
    )


def test_what_is_redacted_is_not_found_again():
    once = redact("a@x.example 090-1234-5678 Password: kettle4Sencha, 4111 1111 1111 1111")
    assert redact(once) == once


def test_the_masked_form_shows_two_characters_at_most():
    for finding in find_personal_data("bob@example.com, 4111 1111 1111 1111, Password: kettle4Sencha"):
        assert finding.text not in finding.masked
        assert finding.masked.startswith(f"{finding.kind} {finding.text[:2]}***")


def test_kinds_can_be_chosen():
    text = "bob@example.com 090-1234-5678"
    assert [finding.kind for finding in find_personal_data(text, kinds=["phone"])] == ["phone"]
    assert {"secret", "email", "phone", "card", "iban", "my_number"} <= set(KINDS)


def test_long_texts_take_no_long_time():
    """Patterns that try again at every place would need hours for these."""
    for text in ("a" * 300_000, "1 " * 150_000, "a@" * 100_000, "0" * 300_000, "AB12 " * 60_000):
        find_personal_data(text)


def test_presidio_adds_names_or_says_how_to_install_it(tmp_path: Path):
    """Both outcomes are real: with the extra a spaCy model finds a name, without it the text is the remedy."""
    if find_spec("presidio_analyzer") is None:
        with pytest.raises(MissingDependencyError, match=r'pip install "ftclient\[presidio\]"'):
            presidio_finder()
        assert "spacy" not in sys.modules
        return
    import spacy

    pipeline = spacy.blank("en")
    pipeline.add_pipe("entity_ruler").add_patterns([{"label": "PERSON", "pattern": "Olive Marsh"}])
    pipeline.to_disk(tmp_path / "model")
    finder = presidio_finder(model=str(tmp_path / "model"))
    assert redact("Olive Marsh, olive@example.com", finder=finder) == "[PERSON_1], [EMAIL_1]"
