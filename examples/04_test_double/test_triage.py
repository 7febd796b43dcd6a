"""Tests of the application, without network, cost, or weights: installing ftclient brings the fixture `ft_client`.

    pytest examples/04_test_double                            simulated, seconds
    pytest examples/04_test_double --ft-backend=local         real training on this machine
    pytest examples/04_test_double --ft-backend=hosted        OpenAI itself; costs money

The simulated backend answers like the nearest training example, so what the application makes of an answer is tested
too.
"""

from pathlib import Path

import pytest
from triage import learn, queue_of

from ftclient import Client, DataError

DATA = Path(__file__).parents[1] / "data"


def test_the_tuned_model_carries_our_suffix(ft_client: Client) -> None:
    assert ":triage:" in learn(ft_client, DATA / "support.jsonl")


def test_a_known_letter_goes_to_its_queue(ft_client: Client, ft_backend: str) -> None:
    model = learn(ft_client, DATA / "support.jsonl")
    queue = queue_of(ft_client, model, "I was charged twice for one kettle.")
    if ft_backend == "simulated":
        assert queue == "PAY"
    else:
        assert queue  # a dozen letters teach a real model little


def test_an_answer_that_is_no_ticket_goes_to_the_desk(ft_client: Client) -> None:
    """The base model has never seen a ticket."""
    assert queue_of(ft_client, "gpt-4.1-mini-2025-04-14", "Hello!") == "DESK"


def test_broken_training_data_starts_no_job(ft_client: Client) -> None:
    with pytest.raises(DataError):
        learn(ft_client, DATA / "broken.jsonl")
    assert ft_client.jobs() == []
