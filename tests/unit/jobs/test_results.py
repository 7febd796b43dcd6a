"""Result files and events become the same typed rows."""

from __future__ import annotations

import base64
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftclient import StepMetrics
from ftclient.jobs.metrics import decode_result, merge, metrics_of_file

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
