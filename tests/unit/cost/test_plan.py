"""Epochs, prices and plans, with the arithmetic of the published rules."""

from __future__ import annotations

import inspect
import io
import json
import re
from decimal import Decimal
from typing import Any

import pytest
from rich.console import Console

from ftclient import DPO, BudgetError, Client, Dataset, Host, Plan, Reinforcement, Supervised, UnsupportedError, hosts
from ftclient.cost.book import PriceBook
from ftclient.cost.epochs import explain_local_batch, n_steps, resolve_batch, resolve_epochs
from ftclient.cost.offers import compare_offers
from ftclient.cost.planned import hosted_plan, local_plan
from ftclient.cost.prices import last_day_to_start, shutdown_of, training_price
from ftclient.cost.tokens import check_and_count
from ftclient.jobs.request import JobRequest


def example(number: int) -> dict[str, object]:
    return {
        "messages": [
            {"role": "user", "content": f"What is {number} plus one?"},
            {"role": "assistant", "content": f"It is {number + 1}."},
        ]
    }


@pytest.mark.parametrize(
    ("n_examples", "n_epochs", "words"),
    [
        (10, 10, "10 examples: 10 x 3 is under 100, so 100 // 10 = 10 epochs"),
        (21, 4, "21 examples: 21 x 3 is under 100, so 100 // 21 = 4 epochs"),
        (100, 3, "100 examples: 100 x 3 lies between 100 and 25,000, so 3 epochs"),
        (101, 3, "101 examples: 101 x 3 lies between 100 and 25,000, so 3 epochs"),
        (2, 25, "2 examples: 2 x 3 is under 100, so 100 // 2, at most 25 = 25 epochs"),
        (10_000, 2, "10,000 examples: 10,000 x 3 is over 25,000, so 25,000 // 10,000 = 2 epochs"),
        (60_000, 1, "60,000 examples: 60,000 x 3 is over 25,000, so 25,000 // 60,000, at least 1 = 1 epoch"),
    ],
)
def test_auto_epochs_follow_the_published_rule_and_explain_it(n_examples: int, n_epochs: int, words: str) -> None:
    """10, 100 and 101 examples are published jobs: they ran 10, 3 and 3 epochs."""
    assert resolve_epochs("auto", n_examples=n_examples) == (n_epochs, words)


def test_epochs_that_were_asked_for_stand() -> None:
    assert resolve_epochs(5, n_examples=10) == (5, "5 epochs, as asked for")
    assert resolve_epochs(1, n_examples=10) == (1, "1 epoch, as asked for")


def published(n: int) -> Dataset:
    return Dataset(map(example, range(n)))


@pytest.mark.parametrize(("n_examples", "n_epochs", "n_steps"), [(10, 10, 100), (100, 3, 300), (101, 3, 303)])
def test_plans_of_the_published_jobs_have_their_epochs_and_steps(n_examples: int, n_epochs: int, n_steps: int) -> None:
    """Real jobs whose raw output was published: 10 examples ran 10 epochs, 100 and 101 ran 3, in batches of 1."""
    data = published(n_examples)
    request = JobRequest(model="gpt-4o-mini", train=data)
    made = hosted_plan(request, hosts.OPENAI, check_and_count(data, hosts.OPENAI, model="gpt-4o-mini"))
    assert (made.epochs.n_epochs, made.batch_size, made.n_steps) == (n_epochs, 1, n_steps)
    found = made.to_json()
    assert (found["n_steps"], found["batch_size"]) == (n_steps, 1)
    assert found["batch_rule"] == f"{n_examples} examples: 0.2 % of them is less than 1, so 1 example a step"


@pytest.mark.parametrize(
    ("n_examples", "size", "words"),
    [
        (5_000, 10, "5,000 examples: 0.2 % of them is 10, so 10 examples a step"),
        (500_000, 256, "500,000 examples: 0.2 % of them is 1,000, at most 256, so 256 examples a step"),
    ],
)
def test_batches_are_explained_and_said_to_be_assumed(n_examples: int, size: int, words: str) -> None:
    assert resolve_batch("auto", n_examples=n_examples, host_name="openai") == (size, words, True)
    assert resolve_batch(4, n_examples=n_examples, host_name="openai") == (4, "4 examples a step, as asked for", False)
    assert resolve_batch("auto", n_examples=n_examples, host_name="nebius") is None


@pytest.mark.parametrize(
    ("n_examples", "size", "words"),
    [
        (12, 1, "12 examples: 12 // 20 is 0, at least 1, so 1 example a step"),
        (160, 8, "160 examples: 160 // 20 is 8, so 8 examples a step"),
        (6_000, 32, "6,000 examples: 6,000 // 20 is 300, at most 32, so 32 examples a step"),
        (160, 5, "5 examples a step, as the backend chooses"),
    ],
)
def test_the_local_backends_batches_are_explained(n_examples: int, size: int, words: str) -> None:
    assert explain_local_batch(size, asked="auto", n_examples=n_examples).rule == words


def test_a_host_whose_rule_is_not_published_says_that_its_epochs_are_assumed() -> None:
    made = plan(hosts.AZURE, "gpt-4.1-mini", n_epochs="auto")
    assert made.epochs == (2, "2 epochs, Azure's default")
    assert {"epochs_assumed", "before_use", "price_of_global_training"} <= {note.code for note in made.warnings}
    assert "epochs_assumed" not in {note.code for note in plan(hosts.AZURE, "gpt-4.1-mini").warnings}


def test_steps_round_up_within_an_epoch() -> None:
    assert n_steps(101, batch_size=2, n_epochs=3) == 153


@pytest.mark.parametrize(
    "model", ["gpt-4.1-mini", "gpt-4.1-mini-2025-04-14", "ft:gpt-4.1-mini-2025-04-14:acme::abcd1234"]
)
def test_a_price_is_found_by_alias_snapshot_and_tuned_name(model: str) -> None:
    price = training_price(hosts.OPENAI, model)
    assert price is not None
    assert price.usd_per_million_tokens == Decimal("5.00")
    assert price.as_of < "2027"
    assert price.source.startswith("https://")


def test_what_is_not_in_the_table_is_unknown_and_not_free() -> None:
    assert training_price(hosts.OPENAI, "gpt-9") is None
    assert training_price(hosts.OPENAI, "o4-mini") is None  # by the hour
    assert training_price(hosts.NEBIUS, "gpt-4.1-mini") is None


def test_dates_of_the_end_are_known() -> None:
    assert last_day_to_start(hosts.OPENAI) == "2027-01-06"
    assert shutdown_of(hosts.OPENAI, "gpt-4o-mini") == "2027-01-14"
    assert last_day_to_start(hosts.LOCAL) is None


def plan(host: Host, model: str, n: int = 12, *, n_epochs: Any = 2, training_type: Any = None, book: Any = None):
    data = Dataset(map(example, range(n)))
    method = Supervised(n_epochs=n_epochs)
    request = JobRequest(model=model, train=data, method=method, training_type=training_type)
    return hosted_plan(request, host, check_and_count(data, host, model=model), book=book, day="2026-11-24")


def shown(made: Plan) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(made)
    return " ".join(console.file.getvalue().split())


def test_cost_is_price_times_tokens_times_epochs_exactly() -> None:
    made = plan(hosts.OPENAI, "gpt-4.1-mini")
    found = made.to_json()
    assert found["billed_tokens"] == found["tokens_per_epoch"] * 2
    assert Decimal(found["cost_usd"]) == Decimal(5) * found["billed_tokens"] / 1_000_000
    assert list(found)[:11] == [
        "n_examples",
        "n_epochs",
        "epochs_rule",
        "tokens_per_epoch",
        "loss_tokens_per_epoch",
        "billed_tokens",
        "price",
        "cost_usd",
        "time_s",
        "memory_bytes",
        "warnings",
    ]
    assert {note["code"] for note in found["warnings"]} == {"training_closing", "model_shutdown", "use_local"}


def test_examples_beyond_the_context_are_billed_up_to_it() -> None:
    from dataclasses import replace

    short = replace(hosts.OPENAI, limits=replace(hosts.OPENAI.limits, context_tokens=15))
    whole, cut = plan(hosts.OPENAI, "gpt-4.1-mini"), plan(short, "gpt-4.1-mini")
    assert whole.tokens.per_epoch > 12 * 15
    assert cut.tokens.per_epoch == 12 * 15
    assert cut.tokens.loss_per_epoch < whole.tokens.loss_per_epoch
    assert "too_long" in {note.code for note in cut.warnings}


def by_hand(data: Dataset, limit: int | None = None) -> tuple[int, int]:
    """All and cut tokens by the cookbook's formula, written down once more."""
    import tiktoken

    encoding = tiktoken.get_encoding("o200k_base")
    counts = []
    for line in data:
        n = 3
        for message in line["messages"]:
            n += 3 + sum(len(encoding.encode(value)) for value in message.values())
        counts.append(n)
    return sum(counts), sum(min(n, limit) if limit else n for n in counts)


def test_tokens_are_those_of_the_published_formula_and_cut_at_the_limit() -> None:
    from dataclasses import replace

    data = Dataset(
        {
            "messages": [
                {"role": "system", "content": "Answer in one word."},
                {"role": "user", "content": "はい " * n, "name": "alice"} if n % 2 else example(n)["messages"][0],
                {"role": "assistant", "content": f"no {n}"},
            ]
        }
        for n in range(1, 40)
    )
    total, cut = by_hand(data, 40)
    n_names = sum(1 for line in data if "name" in line["messages"][1])
    host = replace(hosts.OPENAI, limits=replace(hosts.OPENAI.limits, context_tokens=40))
    request = JobRequest(model="gpt-4.1-mini", train=data)
    whole = hosted_plan(request, hosts.OPENAI, check_and_count(data, hosts.OPENAI, model="gpt-4.1-mini"))
    short = hosted_plan(request, host, check_and_count(data, host, model="gpt-4.1-mini"))
    assert whole.tokens.per_epoch == total + n_names  # the formula adds 1 for each name
    assert short.tokens.per_epoch + short.tokens.n_lost == whole.tokens.per_epoch
    assert cut <= short.tokens.per_epoch <= cut + n_names
    assert short.to_json()["n_cut_examples"] == short.tokens.n_cut > 0


def test_tokens_that_cannot_be_counted_are_null_and_not_zero() -> None:
    data = Dataset(map(example, range(12)))
    report = data.check(model="some-model")
    made = hosted_plan(JobRequest(model="gpt-4.1-mini", train=data), hosts.OPENAI, report)
    found = made.to_json()
    assert (found["tokens_per_epoch"], found["billed_tokens"], found["cost_usd"]) == (None, None, None)
    assert "tokens_unknown" in {note.code for note in made.warnings}
    assert made.use(calls_per_day=1) is None
    with pytest.raises(BudgetError):
        made.check_budget(5)


def test_reinforcement_has_a_rate_but_no_cost() -> None:
    data = Dataset({"messages": [{"role": "user", "content": f"{n}?"}]} for n in range(12))
    request = JobRequest(model="o4-mini", train=data, method=Reinforcement(grader={"type": "string_check"}))
    report = check_and_count(data, hosts.OPENAI, model="o4-mini", method="reinforcement")
    found = {note.code: note.message for note in hosted_plan(request, hosts.OPENAI, report, day="2026-11-24").warnings}
    assert "$100.00 an hour" in found["price_by_the_hour"]
    assert "was shut down" in found["model_gone"]
    request = JobRequest(model="gpt-4.1", train=data, method=Reinforcement(grader={"type": "string_check"}))
    assert "method_not_offered" in {note.code for note in hosted_plan(request, hosts.OPENAI, report).warnings}


def test_models_of_unknown_makers_are_counted_as_an_estimate() -> None:
    made = plan(hosts.OTHER, "some-model")
    assert made.tokens.per_epoch == plan(hosts.OPENAI, "gpt-4.1-mini").tokens.per_epoch
    assert "tokens_estimated" in {note.code for note in made.warnings}


def test_a_budget_is_compared_exactly() -> None:
    made = plan(hosts.OPENAI, "gpt-4.1-mini")
    assert made.cost_usd is not None
    made.check_budget(made.cost_usd)
    with pytest.raises(BudgetError, match="more than the limit"):
        made.check_budget(made.cost_usd - Decimal("0.0000001"))
    for budget in (0, "0", -1, "lots", float("nan")):
        with pytest.raises(BudgetError):
            made.check_budget(budget)


def test_a_budget_names_the_exact_amounts() -> None:
    made = plan(hosts.OPENAI, "gpt-4.1-mini")
    limit = made.cost_usd - Decimal("0.0000001")
    with pytest.raises(BudgetError) as refused:
        made.check_budget(limit)
    assert f"${made.cost_usd:f}, more than the limit of ${limit:f}" in str(refused.value)


@pytest.mark.parametrize(
    ("training_type", "times"),
    [(None, "1.3"), ("standard", "1.3"), ("globalStandard", "1"), ("developerTier", "1")],
)
def test_a_budget_is_held_to_what_the_training_type_costs_at_most(training_type: Any, times: str) -> None:
    made = plan(hosts.AZURE, "gpt-4.1-mini", training_type=training_type)
    most = made.cost_usd * Decimal(times)
    assert made.most_usd == most == Decimal(made.to_json()["most_usd"])
    made.check_budget(most)
    with pytest.raises(BudgetError, match="more than the limit"):
        made.check_budget(most - Decimal("0.0000001"))


def test_a_price_of_ones_own_is_exact_for_every_training_type(tmp_path) -> None:
    training = {"usd_per_million_tokens": "1E+1"}
    own = {"format": 2, "hosts": {"azure": {"models": {"gpt-4.1-mini": {"training": training}}}}}
    (tmp_path / "own.json").write_text(json.dumps(own))
    made = plan(hosts.AZURE, "gpt-4.1-mini", book=PriceBook.read(tmp_path / "own.json"))
    assert made.most_usd == made.cost_usd
    assert made.to_json()["price"]["usd_per_million_tokens"] == "10"
    assert "price_of_global_training" not in {note.code for note in made.warnings}


@pytest.mark.parametrize(("host", "model"), [(hosts.AZURE, "gpt-4.1-mini"), (hosts.CRUSOE, "gpt-oss-120b")])
def test_a_budget_is_not_kept_by_epochs_that_are_only_assumed(host: Host, model: str) -> None:
    with pytest.raises(BudgetError, match=r"chooses the epochs .*--epochs N"):
        plan(host, model, n_epochs="auto").check_budget(1000)
    plan(host, model, n_epochs=2).check_budget(1000)


def test_a_budget_for_reinforcement_is_refused_for_its_hours_and_not_for_a_missing_price() -> None:
    data = Dataset({"messages": [{"role": "user", "content": f"{n}?"}]} for n in range(12))
    request = JobRequest(model="o4-mini", train=data, method=Reinforcement(grader={"type": "string_check"}))
    report = check_and_count(data, hosts.OPENAI, model="o4-mini", method="reinforcement")
    with pytest.raises(BudgetError, match="hours cannot be foreseen") as refused:
        hosted_plan(request, hosts.OPENAI, report).check_budget(1000)
    assert "--prices" not in str(refused.value)


def test_a_minimum_is_not_shown_as_the_product_of_tokens_and_price(tmp_path) -> None:
    own = {"format": 2, "hosts": {"openai": {"minimum_usd_per_job": "2.00"}}}
    (tmp_path / "own.json").write_text(json.dumps(own))
    made = plan(hosts.OPENAI, "gpt-4.1-mini", book=PriceBook.read(tmp_path / "own.json"))
    assert made.cost_usd == made.most_usd == 2
    assert "at least $2.00, the least that a job costs" in shown(made)
    assert "$2.0000 =" not in shown(made)


def test_a_model_that_is_gone_has_no_cost_of_use_and_no_dates_that_no_longer_matter() -> None:
    made = plan(hosts.OPENAI, "gpt-4.1-nano-2025-04-14")
    assert made.is_gone
    assert made.use(calls_per_day=10) is None
    assert {note.code for note in made.warnings} == {"model_gone", "use_local"}
    with pytest.raises(UnsupportedError, match=r"2026-10-23.* nothing was sent"):
        made.check_start(hosts.OPENAI)
    plan(hosts.OPENAI, "gpt-4.1-mini").check_start(hosts.OPENAI)


def test_images_for_a_model_that_takes_none_are_warned_of() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    seen = [{"type": "text", "text": "What is it?"}, image]
    data = Dataset(
        {"messages": [{"role": "user", "content": seen}, {"role": "assistant", "content": f"No. {n}"}]}
        for n in range(12)
    )
    for model, is_warned in (("gpt-4.1-mini", True), ("gpt-4o", False)):
        report = check_and_count(data, hosts.OPENAI, model=model)
        found = hosted_plan(JobRequest(model=model, train=data), hosts.OPENAI, report, day="2026-11-24").warnings
        said = [note.message for note in found if note.code == "images_not_taken"]
        assert bool(said) == is_warned
        assert all("gpt-4o-2024-08-06" in text for text in said)
        assert "use_local" not in {note.code for note in found}  # its model reads no images
    offers = compare_offers(data, day="2026-11-24")
    assert "local" not in {each.host.name for each in offers.offers}
    assert "local" in {host for host, _, _ in offers.left_out}


def instead(request: JobRequest) -> str | None:
    report = check_and_count(request.train, hosts.OPENAI, model="gpt-4.1-mini", method=request.method.type)
    found = {note.code: note.message for note in hosted_plan(request, hosts.OPENAI, report, day="2026-11-24").warnings}
    return found.get("use_local")


def test_the_line_for_ones_own_machine_names_what_is_there_and_the_options_that_hold_there(tmp_path) -> None:
    data = published(40).write(tmp_path / "my data.jsonl")
    valid = published(10).write(tmp_path / "valid.jsonl")
    chosen = {"method": Supervised(n_epochs=2, batch_size=4), "suffix": "sums", "seed": 7}
    text = instead(JobRequest(model="gpt-4.1-mini", train=data, valid=valid, **chosen))
    end = f"--valid {valid.path} --epochs 2 --batch-size 4 --suffix sums --seed 7"
    assert text.endswith(f"train '{data.path}' --model smollm2-135m {end}")
    part, other = data.split(0.8, 0.2)
    for train in (part, published(40)):
        text = instead(JobRequest(model="gpt-4.1-mini", train=train, valid=other))
        assert "plan it again" in text
        assert ".jsonl" not in text
        assert "FILE" not in text


def test_the_use_of_a_preference_model_counts_the_preferred_answer_alone() -> None:
    asked = [
        {"role": "user", "content": "1?"},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "2?"},
    ]
    answers = ["It is three, I think.", "No."]
    preferences = Dataset(
        {
            "input": {"messages": asked},
            "preferred_output": [{"role": "assistant", "content": answers[0]}],
            "non_preferred_output": [{"role": "assistant", "content": answers[1] * 30}],
        }
        for _ in range(12)
    )
    chats = Dataset(
        {"messages": [asked[0], {**asked[1], "weight": 0}, asked[2], {"role": "assistant", "content": answers[0]}]}
        for _ in range(12)
    )
    used = []
    for data, method in ((preferences, DPO(n_epochs=1)), (chats, Supervised(n_epochs=1))):
        report = check_and_count(data, hosts.OPENAI, model="gpt-4.1-mini", method=method.type)
        made = hosted_plan(JobRequest(model="gpt-4.1-mini", train=data, method=method), hosts.OPENAI, report)
        offers = compare_offers(data, method=method, day="2026-11-24", calls_per_day=5, shots=2).offers
        used.append((made.use(calls_per_day=5, shots=2).traffic, {each.use.traffic for each in offers}))
    assert used[0] == used[1]


def test_a_budget_with_an_unknown_price_is_refused() -> None:
    made = plan(hosts.OTHER, "some-model")
    assert made.to_json()["cost_usd"] is None
    assert "price_unknown" in {note.code for note in made.warnings}
    with pytest.raises(BudgetError, match="not known"):
        made.check_budget(1000)


def test_a_plan_is_given_when_the_host_cannot_be_reached(tmp_path) -> None:
    client = Client.openai(api_key="sk-test", base_url="http://127.0.0.1:9/v1", home=tmp_path)
    made = client.plan(Dataset(map(example, range(12))), model="gpt-4.1-mini")
    assert made.cost_usd is not None
    assert "access_unknown" in {note.code for note in made.warnings}


def test_a_plan_of_the_local_backend_counts_with_the_backend_and_charges_nothing(ft_client) -> None:
    made = ft_client.plan(Dataset(map(example, range(21))), model="smollm2-135m")
    found = made.to_json()
    assert found["n_epochs"] == 4
    assert found["epochs_rule"] == "21 examples: 21 x 3 is under 100, so 100 // 21 = 4 epochs"
    assert found["cost_usd"] is None
    assert found["time_s"] is not None
    assert not any(note["code"] == "price_unknown" for note in found["warnings"])
    made.check_budget(0)


def test_energy_is_counted_where_power_and_price_are_known(ft_client) -> None:
    ft_client.prices = ft_client.prices.with_energy(usd_per_kwh=Decimal("0.30"), watts=Decimal(1000))
    made = ft_client.plan(Dataset(map(example, range(21))), model="smollm2-135m")
    assert made.machine.energy_kwh == pytest.approx(made.machine.time_s / 3600)
    assert made.to_json()["machine"]["energy_usd"] == str(made.machine.energy_usd)
    assert float(made.machine.energy_usd) == pytest.approx(made.machine.energy_kwh * 0.3)
    assert made.use(calls_per_day=1000).verdict() == "Nobody charges for it."


def test_what_else_the_backend_says_is_shown_in_its_units() -> None:
    request = JobRequest(model="smollm2-135m", train=Dataset(map(example, range(20))))
    answer = {
        **dict.fromkeys(("n_examples", "batch_size", "n_epochs", "tokens_per_epoch", "loss_tokens_per_epoch"), 20),
        "model": "smollm2-135m",
        "epochs_rule": "",
        "time_s": 65.0,
        "memory_bytes": 2_000_000,
        "energy_kwh": None,
        "memory": {"weights": 1_500_000, "adapters": 500_000, "frozen_states": 0},
        "time": {"start": 5.0, "steps": 60.0},
        "tune": {"type": "last_layers", "n": 2},
        "device": "cpu",
        "precision": "fp32",
        "precision_reason": "exact",
        "threads": 2,
        "micro_batch_tokens": 2048,
        "micro_batch_reason": "fits",
        "something_new": 7,
    }
    console = Console(file=io.StringIO(), width=100)
    console.print(local_plan(request, hosts.LOCAL, answer))
    shown = " ".join(console.file.getvalue().split())
    assert "Memory 2.0 MB (weights 1.5 MB, adapters 500.0 kB)" in shown
    assert "Time about 1 min 5 s (start 5 s, steps 1 min)" in shown
    assert "Trained last layers, n 2" in shown
    assert "Computed cpu, fp32 (exact), 2 threads" in shown
    assert "At once 2,048 tokens (fits)" in shown
    assert "Something new 7" in shown


def test_a_job_that_this_machine_cannot_hold_has_a_code_of_its_own() -> None:
    from local_backend.engine.forecast import estimate

    (words,) = set(re.findall(r"it (would run out of memory)", inspect.getsource(estimate)))
    numbers = ("n_examples", "batch_size", "n_epochs", "tokens_per_epoch", "loss_tokens_per_epoch")
    notes = [f"The job takes 9 GiB: it {words}.", "Prefixes that examples share are computed once."]
    answer = {**dict.fromkeys(numbers, 20), "model": "m", "epochs_rule": "", "time_s": 1.0, "memory_bytes": 9 << 30}
    request = JobRequest(model="m", train=Dataset(map(example, range(20))))
    made = local_plan(request, hosts.LOCAL, {**answer, "notes": notes})
    assert [note.code for note in made.warnings] == ["memory_short", "note"]


def test_a_local_plan_by_a_sample_calls_its_tokens_an_estimate() -> None:
    numbers = ("n_examples", "batch_size", "n_epochs", "tokens_per_epoch", "loss_tokens_per_epoch")
    answer = {**dict.fromkeys(numbers, 90_000), "model": "m", "epochs_rule": "", "time_s": 1.0, "memory_bytes": 1}
    request = JobRequest(model="m", train=Dataset(map(example, range(20))))
    sample = {"n_examples": 8_000, "tokens_deviation": 0.0012}
    made = local_plan(request, hosts.LOCAL, {**answer, "sample": sample})
    assert [note.code for note in made.warnings] == ["tokens_estimated"]
    assert "(± 0.24%), by 8,000 of the 90,000 examples" in made.warnings[0].message
    console = Console(file=io.StringIO(), width=100)
    console.print(made)
    assert "about 90,000 an epoch" in console.file.getvalue()
    counted = local_plan(request, hosts.LOCAL, {**answer, "sample": None})
    assert (counted.warnings, counted.tokens.is_estimate) == ([], False)
    assert "sample" not in counted.to_json()["machine"]


def test_a_local_plan_says_how_its_steps_come_about(ft_client) -> None:
    made = ft_client.plan(Dataset(map(example, range(21))), model="smollm2-135m")
    assert made.to_json()["batch_rule"] == "21 examples: 21 // 20 is 1, so 1 example a step"
    assert made.n_steps == 21 * 4


def test_a_plan_says_the_arithmetic_to_people() -> None:
    console = Console(file=io.StringIO(), width=100)
    made = plan(hosts.OPENAI, "gpt-4.1-mini")
    console.print(made)
    text = console.file.getvalue()
    assert f"{made.billed_tokens:,} tokens x $5.00 a million" in text
    assert "2027-01-14" in text
