"""What curves say: the best checkpoint, overfitting, and pictures."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint

from ftclient import DPO, Dataset, LocalOptions, StepMetrics, Supervised
from ftclient.jobs.curves import best_checkpoint, find_overfitting
from ftclient.jobs.curves_image import curves_svg, write_curves, write_jobs


def rows(train: list[float], valid: list[float]) -> list[StepMetrics]:
    """One row a step; the whole validation file at every second."""
    return [
        StepMetrics(step=i + 1, train_loss=loss, full_valid_loss=valid[i // 2] if i % 2 else None)
        for i, loss in enumerate(train)
    ]


def checkpoint(step: int, **metrics: float) -> FineTuningJobCheckpoint:
    return FineTuningJobCheckpoint.construct(
        id=f"ftckpt_{step}",
        step_number=step,
        fine_tuned_model_checkpoint=f"ft:model:ckpt-step-{step}",
        metrics=FineTuningJobCheckpoint.construct(**metrics),
    )


FALLING = [2.0, 1.6, 1.3, 1.0, 0.6, 0.3, 0.1, 0.05]


def test_validation_that_rises_while_training_falls_is_overfitting() -> None:
    found = find_overfitting(rows(FALLING, [1.8, 1.2, 1.4, 1.9]))
    assert found is not None
    assert (found.best_step, found.best_loss, found.last_loss) == (4, 1.2, 1.9)
    assert "fewer epochs" in str(found)


@pytest.mark.parametrize(
    ("train", "valid"),
    [
        (FALLING, [1.8, 1.2, 1.0, 0.9]),  # still falling
        (FALLING, [1.8, 1.2, 1.21, 1.215]),  # noise
        ([1.0, 0.5, 0.6, 0.7, 0.9, 1.2, 1.5, 2.0], [1.0, 1.2, 1.6, 2.0]),  # training itself goes wrong
        (FALLING[:2], [1.8]),
    ],
)
def test_anything_else_is_not(train: list[float], valid: list[float]) -> None:
    assert find_overfitting(rows(train, valid)) is None


def test_batches_of_validation_are_smoothed_before_they_are_judged() -> None:
    dropping = [StepMetrics(step=i, train_loss=2 / i, valid_loss=2 / i + (0.4 if i % 2 else 0)) for i in range(1, 40)]
    assert find_overfitting(dropping) is None
    turning = [StepMetrics(step=i, train_loss=2 / i, valid_loss=1 + abs(i - 15) / 10) for i in range(1, 40)]
    found = find_overfitting(turning)
    assert found is not None
    assert 13 <= found.best_step <= 19


def test_the_best_checkpoint_is_that_of_the_lowest_validation_loss() -> None:
    three = [checkpoint(step, train_loss=1.0 / step) for step in (2, 4, 6)]
    metrics = rows(FALLING[:6], [1.8, 1.2, 1.4])
    assert best_checkpoint(three, metrics) is three[1]
    own = [checkpoint(2, full_valid_loss=0.9), checkpoint(4, full_valid_loss=1.0), checkpoint(6, full_valid_loss=1.1)]
    assert best_checkpoint(own, metrics) is own[0]


def test_a_difference_that_is_noise_makes_no_other_checkpoint_the_best() -> None:
    def three(*losses: float) -> list[FineTuningJobCheckpoint]:
        return [checkpoint(2 * i, full_valid_loss=loss) for i, loss in enumerate(losses, start=1)]

    even = three(1.3, 0.999, 1.0)
    assert best_checkpoint(even, []) is even[2]
    worse = three(1.3, 0.999, 1.03)
    assert best_checkpoint(worse, []) is worse[1]


def test_the_final_model_need_not_be_that_of_the_last_step() -> None:
    """As where the best epoch was asked for: the second checkpoint has the final model's name."""
    kept = [checkpoint(2, full_valid_loss=1.2), checkpoint(4, full_valid_loss=1.0), checkpoint(6, full_valid_loss=1.5)]
    kept[1].fine_tuned_model_checkpoint = "ft:model"
    assert best_checkpoint(kept, [], model="ft:model") is kept[1]
    assert best_checkpoint([kept[0], kept[2]], [], model="ft:model") is kept[0]
    unmeasured = [checkpoint(2), checkpoint(4)]
    assert best_checkpoint(unmeasured, [], model="ft:model:ckpt-step-2") is unmeasured[0]


def test_rewards_are_better_when_they_are_higher_and_without_validation_the_last_one_stands() -> None:
    two = [checkpoint(2), checkpoint(4)]
    rewards = [StepMetrics(step=2, full_valid_mean_reward=0.7), StepMetrics(step=4, full_valid_mean_reward=0.6)]
    assert best_checkpoint(two, rewards) is two[0]
    assert best_checkpoint(two, []) is two[1]
    assert best_checkpoint([], []) is None


def test_the_picture_has_a_panel_for_each_thing_measured() -> None:
    metrics = [
        StepMetrics(step=i, train_loss=1.0 / i, rewards_margin=0.1 * i, full_valid_loss=1.2 / i) for i in range(1, 9)
    ]
    tree = ET.fromstring(curves_svg(metrics, title="<a & b>"))  # noqa: S314 - our own text
    text = "".join(tree.itertext())
    assert "<a & b>" in text
    assert "loss" in text
    assert "reward margin" in text
    assert "token accuracy" not in text
    assert len(tree.findall(".//{*}polyline")) == 3


def test_pictures_are_svg_or_png_and_nothing_else(tmp_path: Path) -> None:
    metrics = [StepMetrics(step=1, train_loss=1.0), StepMetrics(step=2, train_loss=0.5)]
    assert write_curves(metrics, tmp_path / "a.png", title="t").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match=r"\.svg or \.png"):
        write_curves(metrics, tmp_path / "a.gif", title="t")
    with pytest.raises(ValueError, match="no metrics"):
        write_curves([], tmp_path / "a.svg", title="t")


def test_the_best_model_of_a_job_can_be_used(connect, data, tmp_path: Path) -> None:
    client = connect()
    method = Supervised(n_epochs=3, batch_size=4)
    plan = client.plan(data, valid=data, model="smollm2-135m", method=method, local=LocalOptions())
    result = client.train(plan).wait(timeout_s=60)
    named = [each.fine_tuned_model_checkpoint for each in result.checkpoints]
    assert result.best_model in named
    assert client.chat(result.best_model, "What is 3 plus one?")
    assert result.plot(tmp_path / "curves.svg").read_text(encoding="utf-8").startswith("<svg")


def test_preference_jobs_have_their_rewards_typed(connect, tmp_path: Path) -> None:
    answers = [[{"role": "assistant", "content": text}] for text in ("yes", "no")]
    asked = ({"messages": [{"role": "user", "content": f"{n}?"}]} for n in range(10))
    names = ("input", "preferred_output", "non_preferred_output")
    pairs = Dataset(dict(zip(names, (each, *answers), strict=True)) for each in asked)
    client = connect()
    result = client.train(client.plan(pairs, model="smollm2-135m", method=DPO(n_epochs=2))).wait(timeout_s=60)
    last = result.metrics[-1]
    assert last.rewards_margin == pytest.approx(last.rewards_chosen - last.rewards_rejected)
    assert last.rewards_margin > result.metrics[0].rewards_margin
    assert "reward margin" in result.plot(tmp_path / "curves.svg").read_text(encoding="utf-8")


def test_several_jobs_in_one_picture(tmp_path: Path) -> None:
    jobs = {"first": rows(FALLING, [1.8, 1.2, 1.0, 0.9]), "<second>": rows(FALLING, [1.7, 1.1, 1.4, 1.9]), "none": []}
    svg = write_jobs(jobs, tmp_path / "jobs.svg", title="Two ways").read_text(encoding="utf-8")
    lines = ET.fromstring(svg).findall(".//{http://www.w3.org/2000/svg}polyline")  # noqa: S314 - our own file
    assert len({line.get("stroke") for line in lines}) == len(lines) == 2
    assert "&lt;second&gt;" in svg
    with pytest.raises(ValueError, match="no metrics to draw"):
        write_jobs({"none": []}, tmp_path / "none.svg", title="Nothing")
