"""Ways of tuning that the engine does not have are refused, never replaced by another."""

import pytest

from local_backend.engine.network import tune
from local_backend.task import JobError
from tests.training.tiny import network_of, tiny_model


@pytest.mark.parametrize("kind", ["full", "last_layers", "head"])
def test_what_is_not_lora_is_refused_by_name(kind):
    network = network_of(tiny_model("llama"))
    with pytest.raises(JobError, match=f"not '{kind}'") as caught:
        tune(network, {"type": kind}, seed=1)
    assert (caught.value.code, caught.value.param) == ("unsupported_tuning", "local.tune.type")
