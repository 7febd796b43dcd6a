"""A classifier whose body lies on another device than its last layer. Nothing is computed: sizes and devices are."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from local_backend.engine.classify.classifier import Classifier
from local_backend.engine.classify.labels import Labels


class _Body:
    """Only what a classifier asks of a body: features, on a device that this machine need not have."""

    width = 4

    def __init__(self, device):
        self.model = torch.nn.Linear(2, 2)
        self.reader = self
        self._device = device

    def size(self, one):
        return len(one)

    def features(self, inputs):
        return torch.empty(len(inputs), self.width, device=self._device)


@pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
def test_answers_come_back_from_whatever_device_the_body_is_on(device):
    with FakeTensorMode(allow_non_fake_inputs=True):
        classifier = Classifier(_Body(device), Labels(names=("a", "b", "c")))
        found_BL = classifier.predict([[1], [2, 3]])
    assert (found_BL.shape, found_BL.device.type) == ((2, 3), "cpu")
