"""Short facts: an answer is right if it contains the expected one, however it is written, and does not list others."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ftclient.evaluate.facts import ContainsAnswer, contains, core, is_fact, n_core_words, n_words, plain_words
from ftclient.evaluate.questions import Answer, Question

HANDBOOK = ["At 21:15.", "640 yen.", "From 11:45 to 13:45.", "18.", "90 days.", "Niigata.", "Ms. Fujii.", "F7-208."]


def value(answer: str, expected: str, *, asked: str = "q", among: list[str] | None = None) -> float:
    question = Question(messages=[{"role": "user", "content": asked}], expected=expected)
    return ContainsAnswer(among or [expected])(question, Answer(text=answer))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("The front door is locked at 21:15, and it opens again at 6:30 in the morning.", "At 21:15."),
        ("21:15", "At 21:15."),
        ("It was founded in NIIGATA!", "In Niigata."),
        ("niigata", "Niigata."),
        ("You have 10 days to say so.", "Ten days."),
        ("Ten days.", "10 days"),
        ("They cost 16,000 yen.", "16000 yen."),
        ("They cost 16000.00 yen.", "16,000 yen"),
        ("It opens at 08:00.", "At 8:00."),
        ("The Midori Hospital is near.", "a Midori hospital"),
        ("Take the stairs to hall A, please.", "In hall A."),
        ("Use form F7-208.", "F7-208"),
        ("It's 12kg.", "12 kg"),
        ("That is Ms. Fujii's task.", "Ms. Fujii."),
        ("Lunch costs 640 yen.", "It's 640 yen."),
        ("It is −5 degrees outside.", "-5 degrees"),
        ("正門は２１時１５分に閉まります。", "21時15分です。"),
        ("会社は新潟で生まれました。", "新潟"),
        ("昼食は１６，０００円です", "16,000円"),
        ("ﾊﾙﾎﾞの本社です", "ハルボ"),
        ("It is in New York.", "New_York"),
        ("It is in `New_York`.", "New York"),
        ("__New York__", "New_York"),
        ("The file is day_1.5_log.", "day 1.5 log"),
    ],
)
def test_what_contains_the_answer_is_right_however_long_it_is(answer, expected):
    assert value(answer, expected) == 1.0


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("180 days", "18"),
        ("It was in 2018.", "18."),
        ("B18", "18"),
        ("1.18 litres", "18"),
        ("18:30", "18"),
        ("the 18th floor", "18"),
        ("1,180 yen", "180 yen"),
        ("5 degrees", "-5 degrees"),
        ("In hall B.", "In hall A."),
        ("In the hall.", "In hall A."),
        ("13:45 to 11:45", "From 11:45 to 13:45."),
        ("yen 640", "640 yen"),
        ("within days two", "Within two days."),
        ("after two days", "Within two days."),
        ("Niigatan", "Niigata"),
        ("", "Niigata"),
        ("180日です", "18日"),
        ("長岡", "新潟"),
        ("anything", "..."),
        ("virtual_card_not_working", "card_not_working"),
        ("virtual_card_not_working", "Virtual card"),
        ("It is in New_York.", "York"),
    ],
)
def test_what_does_not_contain_it_is_wrong(answer, expected):
    assert value(answer, expected) == 0.0


def test_a_list_of_everything_is_no_answer():
    everything = " ".join(HANDBOOK)
    assert [value(everything, each, among=HANDBOOK) for each in HANDBOOK] == [0.0] * len(HANDBOOK)
    assert value("640 yen, from 11:45 to 13:45.", "640 yen.", among=HANDBOOK) == 1.0  # one more fact is no list
    assert value("640 yen, from 11:45 to 13:45, not 90 days", "640 yen.", among=HANDBOOK) == 0.0
    asked = "What does a lunch cost after 90 days in Niigata?"
    assert value("After 90 days in Niigata it costs 640 yen.", "640 yen.", asked=asked, among=HANDBOOK) == 1.0


CHOICES = "物ではないものは?\n選択肢: ガラス、動き、浮き輪、タンス、スプリング"


@pytest.mark.parametrize(
    ("answer", "asked", "expected", "right"),
    [
        ("動き", CHOICES, "動き", 1),
        ("答えは「動き」です。", CHOICES, "動き", 1),
        ("ガラスではなく、動きです。", CHOICES, "動き", 1),
        (CHOICES, CHOICES, "動き", 0),
        ("ガラス、動き、浮き輪、タンス、スプリング", CHOICES, "動き", 0),
        ("Kyoto", "Where is it? (A) Tokyo (B) Kyoto (C) Osaka", "Kyoto", 1),
        ("It is (B) Kyoto.", "Where is it? (A) Tokyo (B) Kyoto (C) Osaka", "Kyoto", 1),
        ("(A) Tokyo (B) Kyoto (C) Osaka", "Where is it? (A) Tokyo (B) Kyoto (C) Osaka", "Kyoto", 0),
        ("1. 640 yen 2. 16,000 yen 3. 22 yen", "1. 640 yen\n2. 16,000 yen\n3. 22 yen", "16000 yen", 0),
        ("happy, sad, or angry", "Which one: happy, sad, or angry?", "sad", 0),
        ("A lunch costs 640 yen, for all.", "A lunch, not the soup, costs 640 yen, for all. How much?", "640 yen", 1),
    ],
)
def test_who_repeats_all_choices_has_chosen_none(answer, asked, expected, right):
    assert value(answer, expected, asked=asked, among=[expected, *(f"{n} times" for n in range(400))]) == right


@pytest.mark.parametrize("n", [8, 40, 400])
def test_who_always_gives_the_same_list_gets_no_more_than_a_twentieth_right(n):
    facts = [f"{number} yen" for number in range(n)]
    for length in (1, 2, n // 20, n // 20 + 1, n // 4, n):
        listed = ", ".join(facts[:length])
        n_right = sum(value(listed, each, among=facts) for each in facts)
        assert n_right <= max(2, n // 20 + 1)


def test_parts_of_the_answer_are_no_other_answers():
    facts = ["Posts 3 and 4.", "Three.", "4", "Posts"]
    assert value("It is at posts 3 and 4.", facts[0], among=facts) == 1.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("640 yen", True),
        ("Yasumi.", True),
        ("In Niigata.", True),
        ("in niigata", True),
        ("Nine bags.", True),
        ("On the blue form.", False),
        ("We are sorry.", False),
        ("新潟の工場", True),
    ],
)
def test_facts_have_a_number_a_name_or_a_single_word(text, expected):
    assert is_fact(text) is expected


def test_a_name_with_underscores_counts_as_one_word():
    name = "Balance_not_updated_after_cheque_or_cash_deposit"
    assert (n_core_words(name), is_fact(name)) == (1, True)
    assert n_core_words("On the blue_form.") == 1
    assert n_core_words("新潟") == 1


def test_the_letters_of_scripts_without_spaces_are_half_a_word():
    assert n_words(core("On the first Wednesday of each month.")) == 5
    assert n_words(core("毎月第1水曜日です。")) == 1 + 6 / 2


WORDS = st.lists(st.sampled_from(["10", "yen", "京", "hall", "a1", "1.5"]), max_size=12)


@given(words=WORDS, wanted=WORDS.filter(bool))
def test_containing_is_what_a_search_in_text_finds(words, wanted):
    text, part = (f" {' '.join(each)} " for each in (words, wanted))
    assert contains(words, tuple(wanted)) is (part in text)


PIECES = [
    "It is ",
    "it's ",
    "At ",
    "on ",
    "the ",
    "The ",
    "A ",
    "a ",
    "hall ",
    "8:00",
    "-",
    "16,000",
    "ten ",
    "3rd",
    "京",
    "です",
    "_",
    "in",
    ". ",
]


@given(st.text(max_size=60) | st.lists(st.sampled_from(PIECES), max_size=8).map("".join))
@example("The です")
@example("0. The A 0")
def test_any_text_contains_itself(text):
    if not core(text):
        assert plain_words(text) == ()
    else:
        assert value(text, text) == 1.0
