"""What a plan says of a large file by a sample, against the whole file."""

import json
import random

import pytest

from local_backend.engine.forecast import content
from local_backend.engine.forecast.content import LEAST_SAMPLED, read_content
from local_backend.engine.forecast.estimate import forecast
from local_backend.engine.forecast.load import SAMPLED_BATCHES, measure_whole
from local_backend.engine.template import Template
from local_backend.task import JobError
from tests.training.tiny import chat, task_of, tiny_folder, write_jsonl

N = 4_000
SAMPLE_BYTES, SAMPLE_BYTES_OF_PLANS = 100_000, content.SAMPLE_BYTES
CONTEXT = 512


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_folder(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def template(base):
    return Template.of(base.path)


@pytest.fixture(scope="module")
def lines():
    """Examples of all lengths, short ones more often; no two begin alike."""
    picked = random.Random(5)
    sizes = [int(1 + 60 * picked.random() ** 3) for _ in range(N)]
    return [chat(f"{i * 7919 % 10_000:04}" + " ask" * n, "say " * (1 + i % 5)) for i, n in enumerate(sizes)]


@pytest.fixture
def read(template, monkeypatch):
    def from_file(path, *, sample_bytes=SAMPLE_BYTES_OF_PLANS):
        monkeypatch.setattr(content, "SAMPLE_BYTES", sample_bytes)
        given = {"context_tokens": CONTEXT, "method": "supervised", "param": "training_file", "batch_size": 32}
        return read_content(path, template=template, **given)

    return from_file


def test_an_estimate_is_as_near_to_the_count_as_it_says(read, lines, tmp_path):
    file = write_jsonl(tmp_path / "many.jsonl", lines)
    whole, part = read(file), read(file, sample_bytes=SAMPLE_BYTES)
    assert (whole.n_sampled, whole.deviation, len(whole.rows)) == (None, 0.0, N)
    assert len(part.rows) == part.n_sampled < N / 3
    assert part.n_examples == N
    assert 0 < part.deviation < 0.01
    assert abs(part.n_tokens - whole.n_tokens) < 3 * part.deviation * whole.n_tokens
    assert part.n_loss_tokens == pytest.approx(whole.n_loss_tokens, rel=0.1)
    assert part.longest_tokens == whole.longest_tokens


def test_errors_of_many_samples_are_spread_as_said(read, lines, tmp_path, monkeypatch):
    file = write_jsonl(tmp_path / "many.jsonl", lines)
    true = read(file).n_tokens
    shares = []
    for seed in range(30):
        monkeypatch.setattr(content, "_SEED", seed)
        part = read(file, sample_bytes=SAMPLE_BYTES)
        shares.append((part.n_tokens - true) / true / part.deviation)
    spread = (sum(share**2 for share in shares) / len(shares)) ** 0.5
    assert 0.7 < spread < 1.4
    assert len(set(shares)) == 30


def test_rows_of_a_sample_are_those_of_the_whole_file(read, lines, tmp_path):
    file = tmp_path / "blank.jsonl"
    file.write_text("\n\n".join(json.dumps(line) for line in lines))
    whole, part = read(file), read(file, sample_bytes=SAMPLE_BYTES)
    by_line = {row.line: row for row in whole.rows}
    for row in (*part.rows, *part.longest, *part.first_step):
        assert row == by_line[row.line]
    assert [row.line for row in part.rows] == sorted(row.line for row in part.rows)
    assert {row.line for row in part.first_step} == {row.line for row in whole.first_step}
    assert part.first_step


def test_few_examples_are_counted_however_long_they_are(read, lines, tmp_path):
    few = read(write_jsonl(tmp_path / "few.jsonl", lines[:LEAST_SAMPLED]), sample_bytes=100)
    assert (few.n_sampled, len(few.rows)) == (None, LEAST_SAMPLED)
    more = read(write_jsonl(tmp_path / "more.jsonl", lines[: LEAST_SAMPLED + 1]), sample_bytes=100)
    assert (more.n_sampled, more.n_examples) == (LEAST_SAMPLED, LEAST_SAMPLED + 1)


def test_an_example_that_is_too_long_is_found_though_it_was_not_drawn(read, lines, tmp_path):
    longer = list(lines)
    longer[2_345] = chat("ask " * 400, "say")
    drawn = {row.line for row in read(write_jsonl(tmp_path / "a.jsonl", lines), sample_bytes=SAMPLE_BYTES).rows}
    assert 2_346 not in drawn
    with pytest.raises(JobError, match="Line 2346: It has"):
        read(write_jsonl(tmp_path / "b.jsonl", longer), sample_bytes=SAMPLE_BYTES)


@pytest.mark.parametrize("tune", ["lora", "head"])
def test_a_plan_by_a_sample_is_near_the_plan_of_the_whole_file(base, lines, tmp_path, monkeypatch, tune):
    files = {
        "training": write_jsonl(tmp_path / "many.jsonl", lines[::2]),
        "validation": write_jsonl(tmp_path / "valid.jsonl", lines[1::2]),
    }
    task = task_of(tmp_path, **files, local={"tune": {"type": tune}})
    whole = forecast(task, base=base, folder=tmp_path)
    monkeypatch.setattr(content, "SAMPLE_BYTES", SAMPLE_BYTES)
    part = forecast(task, base=base, folder=tmp_path)
    assert whole.n_sampled is None
    assert 0 < part.n_sampled < N / 2
    chosen = ("micro_batch_tokens", "checkpointing", "tune", "precision")
    assert [part.choices[name] for name in chosen] == [whole.choices[name] for name in chosen]
    assert part.memory_bytes == pytest.approx(whole.memory_bytes, rel=0.01)
    assert part.memory["frozen_states"] == pytest.approx(whole.memory["frozen_states"], rel=0.1)
    assert (part.memory["frozen_states"] > 0) == (tune == "head")
    for name in ("steps", "evaluation", "checkpoints"):  # the others measure what laying out takes here
        assert part.time[name] == pytest.approx(whole.time[name], rel=0.1), name


def test_a_pass_in_one_go_is_measured_by_some_of_its_batches(read, lines, tmp_path):
    whole = read(write_jsonl(tmp_path / "many.jsonl", lines))
    laid_out = {"max_tokens": 600, "is_packed": True, "n_tokens": whole.n_tokens}
    found = measure_whole(whole.rows, **laid_out)
    assert found.packs > 2 * SAMPLED_BATCHES
    exact = _whole_slowly(whole.rows, max_tokens=600)
    assert found.packs == pytest.approx(exact["packs"], rel=0.05)
    assert found.tokens == pytest.approx(exact["tokens"], rel=0.05)
    assert found.rows == pytest.approx(exact["rows"], rel=0.05)
    assert found.pairs == pytest.approx(exact["pairs"], rel=0.1)


def _whole_slowly(rows, *, max_tokens):
    """Every batch, laid out."""
    from local_backend.engine.packing import micro_batches, pack

    groups = [row.parts for row in rows]
    packs = [pack([one for i in batch for one in groups[i]]) for batch in micro_batches(groups, max_tokens=max_tokens)]
    return {
        "packs": len(packs),
        "tokens": sum(one.n_tokens for one in packs),
        "rows": sum(len(one.row_targets_R) for one in packs),
        "pairs": sum(int((one.positions_T + 1).sum()) for one in packs),
    }
