"""Perplexity that nobody asked for is no reason to end an evaluation."""

import pytest

from ftclient import Client, Dataset, FtclientError, Head, LocalOptions, Supervised
from tests.training.tiny import tiny_folder


def example(question, answer):
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return str(tiny_folder(tmp_path_factory.mktemp("base"), max_position_embeddings=256).path)


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with Client.local(home=tmp_path_factory.mktemp("home"), allow_local_paths=True) as found:
        yield found


def test_an_example_that_is_too_long_costs_the_figure_and_no_more(client, base):
    short = [example(f"Tell me of {n}", f"It is a free text about thing {n} with more words") for n in range(3)]
    found = client.evaluate(Dataset(short), models=[base], max_tokens=4)
    assert "perplexity" in found.scores[0].figures
    data = Dataset([*short, example("long " * 80, "It is a free text about things that are rather long")])
    found = client.evaluate(data, models=[base], max_tokens=4)
    assert (found.scores[0].n, found.scores[0].n_refused) == (4, 1)
    assert "perplexity" not in found.scores[0].figures
    (note,) = found.notes
    assert note.startswith(f"{base}: perplexity is left out: ")
    assert "the model reads at most 256" in note
    with pytest.raises(FtclientError, match=r"reads at most 256\. Shorten it\. 4 of 4 are done and kept\.$"):
        client.evaluate(data, models=[base], max_tokens=4, perplexity=True)


def test_classifiers_have_none(client, base):
    labels = [f"topic {letter}" for letter in "abcd"]
    rows = [example(f"question {n} on {labels[n % 4]}", labels[n % 4]) for n in range(12)]
    options = LocalOptions(tune=Head(), task="classify")
    plan = client.plan(Dataset(rows), model=base, method=Supervised(n_epochs=1), local=options)
    tuned = client.train(plan).wait(timeout_s=120).model
    found = client.evaluate(Dataset(rows[:4]), models=[base, tuned], max_tokens=4)
    assert found.kind.kind == "labels"  # though each comes once
    assert found.kind.reason == "a classifier is asked: the 4 expected answers are 4 labels"
    assert ["perplexity" in score.figures for score in found.scores] == [False, False]
    assert found.notes == []
    alone = client.evaluate(Dataset(rows[:4]), models=[base], max_tokens=4)
    assert alone.kind.kind != "labels"
    with pytest.raises(FtclientError, match="labels and no texts"):
        client.evaluate(Dataset(rows[:4]), models=[tuned], perplexity=True)
