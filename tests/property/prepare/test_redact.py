"""Redaction, in any text."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from ftclient.data.redact import find_personal_data, redact
from ftclient.data.redact_patterns import is_card, is_iban, my_number_check_digit

NAMES = st.from_regex(r"[a-z][a-z0-9]{0,8}(\.[a-z]{1,5})?@[a-z]{1,8}\.(example|co\.jp|com)", fullmatch=True)
DIGITS = st.text("0123456789", min_size=11, max_size=11)
PHONES = st.builds("0{}0-{}-{}".format, st.sampled_from("789"), st.integers(1000, 9999), st.integers(1000, 9999))
AROUND = st.text(st.characters(categories=["L", "Zs"]), max_size=20)
WIDE = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}


@given(st.text())
def test_findings_are_in_order_inside_the_text_and_apart(text):
    found = find_personal_data(text)
    assert all(text[finding.start : finding.end] == finding.text for finding in found)
    assert all(one.end <= other.start for one, other in itertools.pairwise(found))


@given(st.text() | st.lists(NAMES | PHONES | st.sampled_from("-.:@ 1"), max_size=5).map(" ".join))
def test_nothing_is_left_to_redact(text):
    once = redact(text)
    assert redact(once) == once


@given(AROUND, NAMES | PHONES, AROUND, st.booleans())
def test_planted_data_are_found_in_any_text_and_width(before, value, after, is_wide):
    planted = value.translate(WIDE) if is_wide else value
    redacted = redact(f"{before} {planted} {after}")
    assert planted not in redacted
    assert redacted.startswith(f"{before} [")
    assert redacted.endswith(f"] {after}")


@given(DIGITS)
def test_my_numbers_are_told_by_their_check_digit(digits):
    check = my_number_check_digit(digits)
    for last in range(10):
        found = find_personal_data(f"マイナンバー {digits}{last}", kinds=["my_number"])
        assert bool(found) == (last == check)


@given(st.text("0123456789", min_size=12, max_size=15).map(lambda digits: "4" + digits))
def test_exactly_one_check_digit_makes_a_card(digits):
    assert sum(is_card(f"{digits}{last}") for last in range(10)) == 1


@given(st.text("0123456789", min_size=18, max_size=18))
def test_at_most_two_check_numbers_make_an_iban(account):
    """97 remainders over 100 numbers: one of each, three twice."""
    assert 1 <= sum(is_iban(f"DE{check:02}{account}") for check in range(100)) <= 2
