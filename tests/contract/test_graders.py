"""Graders through the official client: tried on an answer, or refused by field."""

from __future__ import annotations

import openai
import pytest

from ftclient.errors import UnsupportedError
from ftclient.evaluate.graders import require_sandbox

CHECK = {
    "type": "string_check",
    "name": "exact",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.answer }}",
    "operation": "eq",
}
ASKED = {
    "type": "score_model",
    "name": "judge",
    "model": "smollm2-135m",
    "input": [{"role": "user", "content": '{"result": 0.5}'}],  # the simulated base model says what it was told
}
LABEL = {**ASKED, "type": "label_model", "labels": ["right", "wrong"], "passing_labels": ["right"]}
LABEL["input"] = [{"role": "user", "content": "right"}]


@pytest.fixture
def graders(api):
    return api.fine_tuning.alpha.graders


def run(graders, grader, sample: str, **item):
    return graders.run(grader=grader, model_sample=sample, item=item)


def test_a_grader_is_run_on_an_answer(graders):
    right, wrong = (run(graders, CHECK, text, answer="Paris") for text in ("Paris", "Lyon"))
    assert (right.reward, wrong.reward) == (1.0, 0.0)
    assert (right.metadata.name, right.metadata.type) == ("exact", "string_check")
    assert right.metadata.scores == {"exact": 1.0}
    assert right.metadata.execution_time >= 0
    assert right.metadata.token_usage is None
    assert not any(value for value in right.metadata.errors.to_dict().values())


def test_a_multi_grader_shows_its_parts(graders):
    like = {**CHECK, "type": "text_similarity", "name": "like", "evaluation_metric": "fuzzy_match"}
    del like["operation"]
    multi = {
        "type": "multi",
        "name": "both",
        "graders": {"exact": CHECK, "like": like},
        "calculate_output": "0.5 * exact + 0.5 * like",
    }
    found = run(graders, multi, "Pariss", answer="Paris")
    assert found.sub_rewards["exact"] == 0.0
    assert 0.8 < found.sub_rewards["like"] < 1
    assert found.reward == pytest.approx(0.5 * found.sub_rewards["like"])


def test_a_model_of_this_server_grades(graders):
    found = run(graders, ASKED, "Lyon", answer="Paris")
    assert found.reward == 0.5
    assert found.metadata.sampled_model_name == "smollm2-135m"
    assert found.metadata.token_usage == sum(found.api_model_grader_token_usage_per_model.values()) > 0
    multi = {"type": "multi", "name": "m", "graders": {"label": LABEL}, "calculate_output": "label"}
    assert run(graders, multi, "Lyon").reward == 1.0


def test_what_goes_wrong_in_grading_is_told_with_a_reward_of_zero(graders):
    missing = run(graders, CHECK, "Paris")
    assert missing.reward == 0.0
    assert missing.metadata.errors.invalid_variable_error
    nobody = run(graders, {**ASKED, "model": "no-such-model"}, "Paris")
    assert nobody.metadata.errors.api_model_grader_server_error
    assert "no-such-model" in nobody.metadata.errors.api_model_grader_server_error_details


def test_a_score_that_is_no_finite_number_is_told_too(graders):
    found = run(graders, {**ASKED, "input": [{"role": "user", "content": '{"result": NaN}'}]}, "Paris")
    assert found.reward == 0.0
    assert found.metadata.errors.api_model_grader_parse_error


def test_a_python_grader_is_run_where_it_can_be_shut_in(graders):
    grader = {
        "type": "python",
        "name": "length",
        "source": "def grade(sample, item):\n    return len(sample['output_text']) / item['longest']",
    }
    try:
        require_sandbox()
    except UnsupportedError:
        with pytest.raises(openai.BadRequestError) as refused:
            graders.validate(grader=grader)
        assert refused.value.code == "python_grader_not_supported"
        return
    assert graders.validate(grader=grader).grader.name == "length"
    assert run(graders, grader, "four", longest=8).reward == 0.5
    failed = run(graders, grader, "four").metadata.errors
    assert failed.python_grader_runtime_error
    assert failed.python_grader_runtime_error_details.startswith("KeyError: 'longest' (line 2")


def test_halves_of_surrogate_pairs_in_an_error_are_shown_as_what_stands_for_them(graders):
    try:
        require_sandbox()
    except UnsupportedError:
        pytest.skip("python graders are refused here")
    source = 'def grade(sample, item):\n    raise ValueError("half \\ud83d")'
    found = run(graders, {"type": "python", "name": "half", "source": source}, "Paris")
    assert "half \ufffd" in found.metadata.errors.python_grader_runtime_error_details


def test_a_formula_without_a_value_is_told(graders):
    multi = {
        "type": "multi",
        "name": "m",
        "graders": {"exact": CHECK},
        "calculate_output": "floor(1e200) * ceil(1e200)",
    }
    found = run(graders, multi, "Paris", answer="Paris")
    assert (found.reward, found.metadata.errors.other_error) == (0.0, True)


@pytest.mark.parametrize("grader", [CHECK, ASKED, {**CHECK, "operation": "ilike"}])
def test_a_grader_that_can_work_is_valid(graders, grader):
    assert graders.validate(grader=grader).grader.name == grader["name"]


@pytest.mark.parametrize(
    ("change", "param", "words"),
    [
        ({"operation": "is"}, "grader.operation", "Invalid value"),
        ({"reference": 3}, "grader.reference", "expected a string"),
        ({"type": "regex"}, "grader.type", "must be one of string_check"),
        ({"extra": 1}, "grader.extra", "Unknown parameter"),
        ({"input": "{{ answer }}"}, "grader", "is no variable"),
    ],
)
def test_a_grader_that_cannot_work_is_refused_by_field(graders, change, param, words):
    for call in (graders.validate, lambda grader: graders.run(grader=grader, model_sample="x")):
        with pytest.raises(openai.BadRequestError) as raised:
            call(grader={**CHECK, **change})
        assert raised.value.param == param
        assert words in raised.value.message


def test_formulas_are_read_before_they_are_needed(graders):
    multi = {"type": "multi", "name": "m", "graders": {"exact": CHECK}, "calculate_output": "exact + other"}
    with pytest.raises(openai.BadRequestError, match="there is no grader 'other'"):
        graders.validate(grader=multi)


def test_a_grade_that_nobody_can_call_is_refused_before_it_is_run(graders):
    nested = "def outer():\n    def grade(sample, item):\n        return 1.0\n    return grade"
    for call in (graders.validate, lambda grader: graders.run(grader=grader, model_sample="x")):
        with pytest.raises(openai.BadRequestError, match="grade in line 2 is inside of a function or class"):
            call(grader={"type": "python", "name": "nested", "source": nested})
