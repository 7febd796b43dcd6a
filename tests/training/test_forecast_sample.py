"""What a plan says of a large file by a sample, against the whole file."""

import json
import random

import pytest

from local_backend.engine.forecast import content, load, sampling
from local_backend.engine.forecast.content import read_content
from local_backend.engine.forecast.estimate import forecast
from local_backend.engine.forecast.load import SAMPLED_BATCHES, measure_load, measure_whole, together
from local_backend.engine.forecast.sampling import LEAST_SAMPLED
from local_backend.engine.packing import micro_batches, pack
from local_backend.engine.rows import step_indices
from local_backend.engine.template import Template
from local_backend.task import JobError
from tests.training.tiny import NO_TIME, chat, task_of, tiny_folder, write_jsonl

N = 4_000
SAMPLE_BYTES = 100_000
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


def samples_above(n_bytes, monkeypatch):
    """Let plans take what is larger for a large file, and look at so much of it."""
    monkeypatch.setattr(content, "WHOLE_BYTES", n_bytes)
    monkeypatch.setattr(sampling, "SAMPLE_BYTES", n_bytes)
    monkeypatch.setattr(sampling, "NEIGHBOUR_BYTES", 2 * n_bytes)


@pytest.fixture
def read(template, monkeypatch):
    def from_file(path, *, sample_bytes=None):
        if sample_bytes is not None:
            samples_above(sample_bytes, monkeypatch)
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
        monkeypatch.setattr(sampling, "_SEED", seed)
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
    monkeypatch.setattr(load, "time", NO_TIME)
    whole = forecast(task, base=base, folder=tmp_path)
    samples_above(SAMPLE_BYTES, monkeypatch)
    part = forecast(task, base=base, folder=tmp_path)
    assert whole.n_sampled is None
    assert 0 < part.n_sampled < N / 2
    chosen = ("micro_batch_tokens", "checkpointing", "tune", "precision")
    assert [part.choices[name] for name in chosen] == [whole.choices[name] for name in chosen]
    assert part.memory_bytes == pytest.approx(whole.memory_bytes, rel=0.01)
    assert part.memory["frozen_states"] == pytest.approx(whole.memory["frozen_states"], rel=0.1)
    assert (part.memory["frozen_states"] > 0) == (tune == "head")
    for name in ("frozen", "steps", "evaluation", "checkpoints"):
        assert part.time[name] == pytest.approx(whole.time[name], rel=0.1), name


def test_a_pass_in_one_go_is_measured_by_some_of_its_batches(read, lines, tmp_path):
    whole = read(write_jsonl(tmp_path / "many.jsonl", lines))
    found = measure_whole(whole.rows, n_tokens=whole.n_tokens, max_tokens=600, is_packed=True)
    assert found.packs > 2 * SAMPLED_BATCHES
    exact = _slowly(whole.rows, max_tokens=600)
    for name in ("packs", "tokens", "rows", "pairs"):
        assert getattr(found, name) == pytest.approx(exact[name], rel=0.1), name


def _slowly(rows, *, max_tokens):
    """Every batch, laid out."""
    groups = [row.parts for row in rows]
    packs = [pack([one for i in batch for one in groups[i]]) for batch in micro_batches(groups, max_tokens=max_tokens)]
    return {
        "packs": len(packs),
        "tokens": sum(one.n_tokens for one in packs),
        "rows": sum(len(one.row_targets_R) for one in packs),
        "pairs": sum(int((one.positions_T + 1).sum()) for one in packs),
        "largest": max(one.n_tokens for one in packs),
    }


def test_a_pass_over_all_is_measured_by_neighbours_that_share_prefixes(read, tmp_path):
    """Ten questions about each document, shuffled: a job computes each document once."""
    asked = [(f"{d:03} " + "say " * 50, q) for d in range(400) for q in range(10)]
    random.Random(3).shuffle(asked)
    file = write_jsonl(tmp_path / "many.jsonl", [chat(f"{text} ask {q}", "say") for text, q in asked])
    laid_out = {"max_tokens": 600, "is_packed": True, "frozen": True}
    whole, part = read(file), read(file, sample_bytes=SAMPLE_BYTES)
    true = measure_whole(whole.neighbours, n_tokens=whole.n_tokens, **laid_out)
    by_neighbours = measure_whole(part.neighbours, n_tokens=part.n_tokens, **laid_out)
    at_random = measure_whole(part.rows, n_tokens=part.n_tokens, **laid_out)
    assert len(part.neighbours) < len(whole.rows) / 4
    assert by_neighbours.tokens == pytest.approx(true.tokens, rel=0.25)
    assert at_random.tokens > 1.5 * true.tokens


@pytest.mark.parametrize("seed", range(4))
def test_one_long_example_counts_once_wherever_it_comes(read, lines, tmp_path, seed):
    """It takes memory in every run, and time once, whether a step with it is laid out or not."""
    some = [*lines[:1_600], chat("ask " * 110, "say")]
    rows = read(write_jsonl(tmp_path / "many.jsonl", some)).rows
    n_tokens = sum(row.n_tokens for row in rows)
    given = {"n_examples": len(rows), "n_tokens": n_tokens, "batch_size": 4, "max_tokens": 200, "is_packed": True}
    found = measure_load(rows, seed=seed, **given)
    steps = [step_indices(len(rows), batch_size=4, seed=seed, step=step) for step in range(-(-len(rows) // 4))]
    exact = [_slowly([rows[i] for i in step], max_tokens=200) for step in steps]
    assert found.steps == len(steps)
    assert found.largest_tokens == max(one["largest"] for one in exact) > 400
    for name in ("tokens", "pairs", "rows", "packs"):
        assert getattr(found, name) == pytest.approx(sum(one[name] for one in exact), rel=0.1), name


def test_the_longest_are_those_with_most_tokens_too(tmp_path):
    """Japanese has far fewer bytes a token than English."""
    english, japanese = [chat("ask " * 300, "say")] * 100, chat("質" * 250, "答")
    file = write_jsonl(tmp_path / "mixed.jsonl", [chat("ask", "say")] * 900 + english)
    with file.open("a", encoding="utf-8") as opened:
        opened.write(json.dumps(japanese, ensure_ascii=False) + "\n")
    lines = sampling.read_lines(file)
    assert lines.bytes_N[-1] < 1_000 < lines.bytes_N[-2]
    assert 1_001 in sampling.longest(lines)


def test_files_of_a_task_are_scaled_each_by_its_own(read, lines, tmp_path):
    """A whole validation file beside a sample of the training file weighs what it weighs."""
    train = read(write_jsonl(tmp_path / "many.jsonl", lines), sample_bytes=SAMPLE_BYTES)
    valid = read(write_jsonl(tmp_path / "few.jsonl", [chat(f"{n:04} ask", "say " * 9) for n in range(400)]))
    one, other = (
        measure_whole(part.neighbours, n_tokens=part.n_tokens, max_tokens=600, is_packed=True)
        for part in (train, valid)
    )
    both = together([one, other])
    assert both.rows == one.rows + other.rows
    assert both.tokens == one.tokens + other.tokens
    assert both.largest_tokens == max(one.largest_tokens, other.largest_tokens)
    assert other.rows == pytest.approx(valid.n_loss_tokens)


def test_lines_are_looked_at_as_they_are(tmp_path):
    file = tmp_path / "odd.jsonl"
    file.write_bytes(b'{"a": 1}\r\n\n  \n{"a": 23}\n{"a": 2}')
    lines = sampling.read_lines(file)
    assert lines.numbers_N.tolist() == [1, 4, 5]
    assert lines.bytes_N.tolist() == [10, 10, 8]
    assert lines.n_common == len('{"a": ')
    assert sampling.drawn(lines) == sampling.longest(lines) == sampling.neighbours(file, lines) == {1, 4, 5}
    (tmp_path / "empty.jsonl").write_bytes(b"\n\n")
    assert sampling.read_lines(tmp_path / "empty.jsonl").n_bytes == 0
