"""A classifier in memory: a body, a new last layer, and what makes probabilities of its outputs.

Shapes: B examples, W width of the features, L labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from local_backend.engine.classify.body import ImageBody, TextBody
from local_backend.engine.classify.labels import Labels

FEATURES_TOKENS = 4096
"""Tokens computed at once where nothing is kept for a backward pass."""
FEATURES_IMAGES = 32
_LEAST_SPREAD = 1e-3
"""Features that vary less than this share of the others are not blown up."""


class Classifier:
    """Body and last layer. The layer reads standardised features, so that one learning rate fits every body."""

    def __init__(self, body: TextBody | ImageBody, labels: Labels, *, has_bias: bool = True) -> None:
        self.body = body
        self.labels = labels
        self.temperature = 1.0
        """Divides the logits; fitted on validation data."""
        dtype = next(body.model.parameters()).dtype
        dtype = dtype if dtype is torch.float64 else torch.float32
        self.head = nn.Linear(body.width, len(labels.names), bias=has_bias, dtype=dtype)
        self.middle_W = torch.zeros(body.width, dtype=dtype)
        self.spread_W = torch.ones(body.width, dtype=dtype)
        nn.init.zeros_(self.head.weight)
        if has_bias:
            nn.init.zeros_(self.head.bias)

    def standardise(self, features_BW: torch.Tensor) -> None:
        """Take middle and spread of the features from some. Without a bias nothing can be moved, only scaled."""
        wide = features_BW.double()
        middle = wide.mean(0) if self.head.bias is not None else torch.zeros_like(wide[0])
        spread = (wide - middle).square().mean(0).sqrt()
        self.middle_W = middle.to(self.middle_W.dtype)
        self.spread_W = spread.clamp(min=_LEAST_SPREAD * float(spread.mean()) + 1e-12).to(self.spread_W.dtype)

    def logits(self, features_BW: torch.Tensor) -> torch.Tensor:
        """What the last layer says of features (B, L); it computes where it is, on the CPU, wherever the body is."""
        wide = features_BW.to(self.head.weight)
        out: torch.Tensor = self.head((wide - self.middle_W) / self.spread_W)
        return out

    def last_layer(self) -> nn.Linear:
        """The last layer as it reads plain features."""
        head = self.head
        plain = nn.Linear(head.in_features, head.out_features, bias=head.bias is not None, dtype=head.weight.dtype)
        with torch.no_grad():
            weight_LW = head.weight / self.spread_W
            plain.weight.copy_(weight_LW)
            if head.bias is not None:
                plain.bias.copy_(head.bias - weight_LW @ self.middle_W)
        return plain

    def set_last_layer(self, weight_LW: torch.Tensor, bias_L: torch.Tensor | None) -> None:
        """Take a last layer that reads plain features."""
        with torch.no_grad():
            self.head.weight.copy_(weight_LW * self.spread_W)
            if self.head.bias is not None and bias_L is not None:
                self.head.bias.copy_(bias_L + weight_LW @ self.middle_W)

    def batches(self, inputs: Sequence[Any], *, max_tokens: int = FEATURES_TOKENS) -> Iterator[list[int]]:
        """Positions of inputs to compute at once: similar sizes together, about `max_tokens` in each."""
        if isinstance(self.body, ImageBody):
            yield from (
                list(range(at, min(at + FEATURES_IMAGES, len(inputs)))) for at in range(0, len(inputs), FEATURES_IMAGES)
            )
            return
        batch: list[int] = []
        for i in sorted(range(len(inputs)), key=lambda i: self.body.reader.size(inputs[i])):
            if batch and (len(batch) + 1) * self.body.reader.size(inputs[i]) > max_tokens:
                yield batch
                batch = []
            batch.append(i)
        if batch:
            yield batch

    def predict(self, inputs: Sequence[Any]) -> torch.Tensor:
        """Calibrated log-probabilities of the labels (B, L); of several labels, of each by itself."""
        out_BL = torch.zeros(len(inputs), len(self.labels.names), dtype=self.head.weight.dtype)
        with torch.inference_mode():
            for batch in self.batches(inputs):
                logits_BL = self.logits(self.body.features([inputs[i] for i in batch])) / self.temperature
                is_multi = self.labels.is_multi
                out_BL[batch] = (
                    torch.nn.functional.logsigmoid(logits_BL) if is_multi else torch.log_softmax(logits_BL, dim=1)
                )
        return out_BL
