"""Labels as answers, one or a list of them: a right one is right however it is dressed, and no wrong one is."""

from __future__ import annotations

import itertools
import json

import pytest

from ftclient.evaluate.compare import Comparison
from ftclient.evaluate.questions import Answer, questions_of
from ftclient.evaluate.task import task_like, task_of


def task_for(answers, **known):
    messages = [[{"role": "user", "content": "q"}, {"role": "assistant", "content": answer}] for answer in answers]
    questions = questions_of([{"messages": each} for each in messages])
    return questions, task_of(questions, **known)


def figures(expected, given, **known):
    """What one model gets, by metric."""
    questions, task = task_for(expected, **known)
    comparison = Comparison(questions=questions, given={"m": [Answer(text=text) for text in given]}, task=task)
    return comparison.scores[0], {name: figure.value for name, figure in comparison.scores[0].figures.items()}


def test_labels_are_compared_without_their_dress():
    _, found = figures(["card_arrival", "届かない"] * 2, [' "Card_Arrival". ', "届かない。", "card", "届"])
    assert found["accuracy"] == 0.5


@pytest.mark.parametrize(
    ("labels", "wrong"),
    [
        (["a", "A", "b", "B"], ["A", "a", "B", "b"]),
        ([".", "...", '"', "'"], ["...", ".", "'", '"']),
        (["yes", "yes.", "no"], ["yes.", "yes", "yes"]),
        (["👍", "👎"], ["👎", "👍"]),
        ([".", "a"], ["", "b"]),
    ],
)
def test_labels_that_only_their_dress_parts_are_compared_as_written(labels, wrong):
    _, found = figures(labels * 5, labels * 5)
    assert (found["accuracy"], found["macro_f1"]) == (1, 1)
    _, found = figures(labels * 5, wrong * 5)
    assert (found["accuracy"], found["macro_f1"]) == (0, 0)


def test_other_labels_keep_their_dress_where_two_are_alike_and_the_reason_says_which():
    expected = ["Yes", "yes", "maybe"] * 4
    _, task = task_for(expected)
    assert task.reason == "the 12 expected answers are 3 short labels, of which 2 are alike but for case or signs"
    _, found = figures(expected, ["Yes", "yes", "Maybe."] * 4)
    assert found["accuracy"] == 1


@pytest.mark.parametrize(
    ("labels", "given"),
    [
        (["Yes", "yes"], ['"Yes".', "yes."]),  # only case parts them
        (["yes", "yes."], ["Yes", "YES."]),  # only a sign does
        (["Yes", "yes.", "yes"], ["'Yes'", "yes.", "yes"]),
    ],
)
def test_only_the_dress_that_parts_labels_is_kept(labels, given):
    _, found = figures(labels * 5, given * 5)
    assert found["accuracy"] == 1


@pytest.mark.parametrize("given", ["YES", "yEs."])
def test_a_text_that_may_be_one_label_or_another_is_neither(given):
    _, found = figures(["Yes", "yes"] * 5, [given] * 10)
    assert found["accuracy"] == 0


def test_a_rare_spelling_is_no_label_of_its_own_and_the_reason_says_so():
    expected = ["positive", "negative"] * 100 + ["Positive", '"negative"']
    _, task = task_for(expected)
    assert task.reason == (
        "the 202 expected answers are 2 short labels; rare spellings of them ('Positive', '\"negative\"') count as the "
        "common ones"
    )
    _, found = figures(expected, ["Positive.", "Negative."] * 101)
    assert (found["accuracy"], found["macro_f1"]) == (1, 1)
    _, found = figures(expected, ["Negative.", "Positive."] * 101)
    assert found["accuracy"] == 0


def test_no_more_than_three_rare_spellings_are_shown():
    expected = ["positive"] * 100 + ["negative"] * 100 + ["Positive", "POSITIVE", "positive.", "Negative"]
    assert "('Positive', 'POSITIVE', 'positive.', ...)" in task_for(expected)[1].reason


def test_signs_are_no_rare_spellings_of_each_other():
    expected = ["..."] * 100 + ["."] * 2
    _, found = figures(expected, ["..."] * 102)
    assert found["accuracy"] == 100 / 102


def test_an_answer_of_signs_alone_shares_no_words_with_another_one():
    _, found = figures(["👍", "It was a very good day for all of us"], ["👎", ""])
    assert found["shared_words"] == 0
    _, found = figures(["👍", "It was a very good day for all of us"], [" 👍", ""])
    assert found["shared_words"] == 0.5


def test_a_name_with_underscores_is_no_part_of_another():
    """Where too few labels come again, they are taken for facts; other signs between their words are no matter."""
    labels = ["card_not_working", "virtual_card_not_working", "age_limit", "pin_blocked"]
    given = ["virtual_card_not_working", "It is `virtual_card_not_working`.", "Age_limit", "pin blocked"]
    _, found = figures(labels, given)
    assert found["contains_answer"] == 0.75


@pytest.mark.parametrize(
    "answers",
    [["Niigata", "640"], ["In hall 2.", "640 yen"], ["#### 3"], ['{"a": 1}'], ["a"], ["one\ntwo and so on"]],
)
def test_what_a_classifier_is_asked_for_are_labels_whatever_they_look_like(answers):
    assert task_for(answers)[1].kind != "labels"
    _, task = task_for(answers, are_labels=True)
    assert (task.kind, task.measures[0][0].name) == ("labels", "accuracy")
    assert task.reason.startswith("a classifier is asked: ")


LISTS = [["tool", "fruit"], ["fruit"], ["animal", "tool"], [], ["animal", "tool"], ["tool", "fruit"]]


def test_lists_of_labels_are_compared_as_sets():
    expected = [json.dumps(labels) for labels in LISTS]
    score, found = figures(expected, [json.dumps(labels[::-1]) for labels in LISTS])
    assert found == {"exact_match": 1, "valid_json": 1, "macro_f1": 1}
    assert (score.exact_match, score.valid_json) == (1, 1)
    given = ['["fruit", "tool"]', '["Fruit"]', '["animal"]', "[]", '["tool", "animal", "fruit"]', "tool"]
    score, found = figures(expected, given)
    # tool: 2 of 4 wanted and 2 given; fruit: 2 of 3 and 3; animal: 2 of 2 and 2.
    expected_f1 = (2 * 2 / (4 + 2) + 2 * 2 / (3 + 3) + 2 * 2 / (2 + 2)) / 3
    assert found == {"exact_match": 0.5, "valid_json": pytest.approx(5 / 6), "macro_f1": pytest.approx(expected_f1)}
    assert score.exact_match == 0.5


def test_nothing_is_right_but_an_empty_list_where_no_label_is():
    expected = ["[]", '["a"]', '["b"]', '["a", "b"]']
    _, found = figures(expected, ["", '["a"]', '["b"]', '["b", "a"]'])
    assert found["exact_match"] == 0.75
    _, found = figures(["[]", "[]"], ["[]", '["a"]'], are_labels=True)
    assert (found["exact_match"], found["macro_f1"]) == (0.5, 0)


def test_the_macro_f1_of_lists_says_how_sure_it_is():
    expected = [json.dumps(labels) for labels in LISTS] * 5
    score, _ = figures(expected, expected)
    assert 0.8 < score.figures["macro_f1"].interval.low < 1


def test_the_labels_of_each_answer_are_written_out():
    expected = [json.dumps(labels) for labels in LISTS]
    given = {"m": [Answer(text=each) for each in expected]}
    written = json.dumps(Comparison(questions=task_for(expected)[0], given=given).to_json())
    assert json.loads(written)["answers"][0]["values"]["macro_f1"] == {"m": [["fruit", "tool"], ["fruit", "tool"]]}


RANKINGS = [json.dumps(ranking) for ranking in itertools.permutations(["red", "green", "blue"])] * 3
ORDER_COUNTS = "expected answers are JSON, lists whose order counts: some have the same in another one"


def test_where_lists_have_the_same_in_different_orders_their_order_counts():
    assert task_for(RANKINGS)[1].reason == f"all {len(RANKINGS)} {ORDER_COUNTS}"
    _, found = figures(RANKINGS, [json.dumps(json.loads(each)[::-1]) for each in RANKINGS])
    assert found["exact_match"] == 0
    _, found = figures(RANKINGS, RANKINGS)
    assert found["exact_match"] == 1


def test_the_training_data_show_that_the_order_of_lists_counts():
    few = [RANKINGS[0]] * 4
    assert task_for(few)[1].kind == "labels"
    task = like(few, RANKINGS)
    assert (task.kind, task.reason) == ("json", f"all 4 {ORDER_COUNTS}")


def test_the_lists_of_a_classifier_have_no_order():
    _, found = figures(RANKINGS, RANKINGS[::-1], are_labels=True)
    assert found["exact_match"] == 1


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        (LISTS, "labels"),
        ([["a", "b"], ["c", "d"], ["e"]], "json"),  # labels come again
        ([["a", "b", "a"], ["b", "a"]] * 5, "json"),  # a label counts once
        ([["a", "b"], ["b", "c"], ["b", "a"]] * 5, "json"),  # sets have no order
        ([[1, 2], [2, 1]] * 5, "json"),
        ([["a"], ["b"], {"a": 1}] * 5, "json"),
        ([["a long text that says much more than a label"], ["b"]] * 5, "json"),
    ],
)
def test_lists_are_labels_where_they_look_like_them(answers, kind):
    assert task_for([json.dumps(answer) for answer in answers])[1].kind == kind


def test_a_classifiers_lists_are_labels_and_numbers_are_read_as_it_does():
    _, found = figures(["[1, 2.50]", "[2]"], ['["2.50", "1"]', '["1"]'], are_labels=True)
    assert found["exact_match"] == 0.5


def like(answers, examples):
    return task_like(task_for(answers)[0], task_for(examples)[0])


@pytest.mark.parametrize(
    ("answers", "examples", "metric"),
    [
        (["praise", "complaint"], ["praise", "complaint"] * 9, "accuracy"),
        (["none of these"], ["praise", "complaint"] * 9, "accuracy"),
        (['["a", "b"]', '["c"]'], ['["a"]', '["b", "c"]'] * 9, "exact_match"),
    ],
)
def test_few_questions_are_about_labels_where_the_training_data_show_them(answers, examples, metric):
    assert task_for(answers)[1].kind != "labels"
    task = like(answers, examples)
    assert (task.kind, task.measures[0][0].name) == ("labels", metric)
    assert task.reason.startswith(f"the training data have labels: the {len(answers)} expected answers are ")


@pytest.mark.parametrize(
    ("answers", "examples", "kind"),
    [
        (["Niigata", "640 yen"], ["Kyoto", "Osaka", "Nara"], "facts"),
        (["A long answer that explains to a customer how to go on."], ["praise", "complaint"] * 9, "text"),
        (['{"a": 1}', '{"b": 2}'], ['{"a": 1}', '{"b": 2}'] * 9, "json"),
        (["praise", "complaint"] * 9, ["A long answer that explains to a customer how to go on."], "labels"),
    ],
)
def test_questions_that_are_about_something_else_stay_what_they_are(answers, examples, kind):
    assert like(answers, examples).kind == task_for(answers)[1].kind == kind
