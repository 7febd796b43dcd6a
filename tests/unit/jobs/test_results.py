"""Result files and events become the same typed rows."""

from __future__ import annotations

import base64
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftclient import StepMetrics
from ftclient.jobs.metrics import decode_result, merge, metrics_of_events, metrics_of_file
from tests.unit.view.scenes import event

CSV = b"step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy\n1,2.5,0.1,,\n2,1.5,0.5,1.75,0.4\n"


@pytest.mark.parametrize("content", [CSV, base64.b64encode(CSV), base64.encodebytes(CSV), b"\xef\xbb\xbf" + CSV])
def test_a_result_file_is_read_plain_and_in_base64(content: bytes) -> None:
    assert metrics_of_file(content) == [
        StepMetrics(step=1, train_loss=2.5, train_mean_token_accuracy=0.1),
        StepMetrics(
            step=2,
            train_loss=1.5,
            train_mean_token_accuracy=0.5,
            valid_loss=1.75,
            valid_mean_token_accuracy=0.4,
        ),
    ]


def test_columns_of_other_methods_are_kept_under_their_own_names() -> None:
    rows = metrics_of_file(b"step,train_mean_reward,pg_loss_sum,note\n3,0.42,1.5,fine\n")
    assert rows[0].train_mean_reward == 0.42
    assert rows[0].to_json() == {"step": 3, "train_mean_reward": 0.42, "pg_loss_sum": 1.5, "note": "fine"}


@given(st.binary(max_size=300))
def test_any_bytes_are_read_without_an_error(content: bytes) -> None:
    for row in metrics_of_file(content):
        assert isinstance(row.step, int)


@given(st.binary(min_size=1, max_size=300))
def test_base64_of_anything_is_taken_off(content: bytes) -> None:
    assert decode_result(base64.b64encode(content)) == content


def test_nan_is_no_number() -> None:
    assert metrics_of_file(b"step,train_loss\n1,nan\nx,2\n") == [StepMetrics(step=1)]


def test_rows_of_two_sources_become_one_and_the_second_wins() -> None:
    first = [StepMetrics(step=1, train_loss=2.0), StepMetrics(step=3, train_loss=1.0)]
    second = [StepMetrics(step=1, train_loss=2.25, valid_loss=3.0), StepMetrics(step=2, extra={"lr": 0.1})]
    assert merge(first, second) == [
        StepMetrics(step=1, train_loss=2.25, valid_loss=3.0),
        StepMetrics(step=2, extra={"lr": 0.1}),
        StepMetrics(step=3, train_loss=1.0),
    ]


def test_metrics_can_be_sent_to_another_process() -> None:
    row = StepMetrics(step=1, train_loss=2.0)
    assert pickle.loads(pickle.dumps(row)) == row  # noqa: S301 - our own bytes


REINFORCED = {
    "step": 3,
    "total_steps": 20,
    "train_mean_reward": 0.4,
    "full_valid_mean_reward": 0.6,
    "reasoning_tokens_mean": 900.5,
    "completion_tokens_mean": 950.0,
    "mean_unresponsive_rewards": 0.01,
    "scores": {
        "graders": [
            {"name": "exact", "type": "string_check", "train_reward_mean": 0.3, "valid_reward_mean": 0.5},
            {"name": "tone", "type": "score_model", "train_reward_mean": 0.5, "valid_reward_mean": 0.7},
        ],
        "train_reward_mean": 0.4,
        "valid_reward_mean": 0.6,
    },
    "usage": {
        "graders": [{"name": "tone", "type": "score_model", "train_prompt_tokens_count": 1200.0}],
        "samples": {"train_reasoning_tokens_mean": 901.0, "valid_reasoning_tokens_mean": 700.0},
    },
    "errors": {
        "graders": [{"name": "exact", "type": "string_check", "train_other_error_mean": 0.25}],
        "samples": {"train_sample_parse_error_count": 2.0},
    },
    "timing": {
        "step": {"sampling": 20.5, "training": 40.0, "full_iteration": 61.0},
        "graders": [{"name": "tone", "type": "score_model", "train_execution_latency_mean": 2.5}],
    },
}
"""A metrics event of a reinforcement job, in OpenAI's form."""


def test_what_a_reinforcement_step_tells_of_each_grader_is_typed() -> None:
    (row,) = metrics_of_events([event(3, "Step 3/20", type="metrics", data=REINFORCED)])
    assert (row.train_mean_reward, row.full_valid_mean_reward) == (0.4, 0.6)
    step = row.reinforcement
    exact, tone = step.grader("exact"), step.grader("tone")
    assert [each.name for each in step.graders] == ["exact", "tone"]
    assert (exact.type, exact.train_reward, exact.valid_reward) == ("string_check", 0.3, 0.5)
    assert exact.errors == {"train_other_error_mean": 0.25}
    assert (tone.train_execution_s, tone.valid_execution_s) == (2.5, None)
    assert tone.tokens == {"train_prompt_tokens_count": 1200.0}
    assert (step.train_reasoning_tokens, step.valid_reasoning_tokens, step.completion_tokens) == (901.0, 700.0, 950.0)
    assert step.unresponsive_share == 0.01
    assert step.errors == {"train_sample_parse_error_count": 2.0}
    assert step.timing_s["full_iteration"] == 61.0
    (merged,) = merge([row], [row])
    assert merged.reinforcement == step
    assert StepMetrics(step=1).reinforcement is None


@pytest.mark.parametrize("odd", [[], {"graders": "none"}, {"graders": [1, {"name": 2}], "samples": []}, {"step": "x"}])
@pytest.mark.parametrize("part", ["scores", "usage", "errors", "timing"])
def test_reinforcement_data_in_another_form_are_no_error(part: str, odd: object) -> None:
    (row,) = metrics_of_events([event(1, "Step 1/2", type="metrics", data={**REINFORCED, part: odd})])
    assert row.reinforcement is not None
    assert {each.name for each in row.reinforcement.graders} == {"exact", "tone"}
