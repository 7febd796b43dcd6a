"""What lies below the lowest trained part, computed once a job: features for a last layer, states for top blocks.

Shapes: B examples, T tokens, D width, W width of the features.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from local_backend.engine.classify import packed
from local_backend.engine.classify.body import ImageBody, TextBody
from local_backend.engine.classify.classifier import Classifier
from local_backend.engine.classify.data import Row
from local_backend.engine.classify.image_states import KeptImageStates, LiveImages, keep_image_states
from local_backend.engine.pace import Between

MOST_BYTES = 1 << 30
"""States that would take more are computed every time; features of whole examples are always kept."""


class Live:
    """Nothing is kept: every step computes the whole body."""

    n_bytes = 0

    def __init__(self, classifier: Classifier) -> None:
        self._body = classifier.body

    def __call__(self, rows: Sequence[Row]) -> torch.Tensor:
        """Features of some rows (B, W)."""
        return self._body.features([row.input for row in rows])


class KeptFeatures:
    """The body does not train: its features are kept (as they came out, so training is exact)."""

    def __init__(self, classifier: Classifier, rows: Sequence[Row], *, between: Between) -> None:
        inputs = [row.input for row in rows]
        self._places = {row.place: i for i, row in enumerate(rows)}
        self._features_NW = torch.zeros(len(rows), classifier.body.width)
        with torch.no_grad():
            for batch in classifier.batches(inputs):
                between()
                self._features_NW[batch] = classifier.body.features([inputs[i] for i in batch]).float().cpu()

    @property
    def n_bytes(self) -> int:
        """What they take."""
        return self._features_NW.nbytes

    def __call__(self, rows: Sequence[Row]) -> torch.Tensor:
        """Features of some rows (B, W)."""
        return self._features_NW[[self._places[row.place] for row in rows]]


class KeptStates:
    """The lower blocks do not train: the states that enter the first trained one are kept."""

    def __init__(self, classifier: Classifier, rows: Sequence[Row], *, n_frozen: int, between: Between) -> None:
        if not isinstance(classifier.body, TextBody):
            raise TypeError("only texts that lie side by side have states to keep")
        self._body = classifier.body
        self._n_frozen = n_frozen
        inputs = [row.input for row in rows]
        self._states: dict[int, torch.Tensor] = {}
        blocks = self._body.blocks()[:n_frozen]
        with torch.no_grad():
            for batch in classifier.batches(inputs):
                between()
                layout = packed.lay_out([inputs[i] for i in batch])
                x_TD = packed.run_blocks(blocks, packed.embed(self._body.model, layout), layout)
                for i, own_TD in zip(batch, torch.split(x_TD, layout.lengths_B.tolist()), strict=True):
                    self._states[rows[i].place] = own_TD.clone()

    @property
    def n_bytes(self) -> int:
        """What they take."""
        return sum(state_TD.nbytes for state_TD in self._states.values())

    def __call__(self, rows: Sequence[Row]) -> torch.Tensor:
        """Features of some rows (B, W)."""
        layout = packed.lay_out([row.input for row in rows])
        x_TD = torch.cat([self._states[row.place] for row in rows])
        return self._body.pool(packed.run_blocks(self._body.blocks()[self._n_frozen :], x_TD, layout), layout)


Features = Live | LiveImages | KeptFeatures | KeptStates | KeptImageStates


def choose_features(classifier: Classifier, rows: Sequence[Row], *, is_changing: bool, between: Between) -> Features:
    """Keep what no step changes; `is_changing` says that the examples themselves do (augmentation)."""
    body = classifier.body
    if is_changing:
        return LiveImages(body, most_bytes=MOST_BYTES) if isinstance(body, ImageBody) else Live(classifier)
    trained = {name for name, parameter in body.model.named_parameters() if parameter.requires_grad}
    if not trained:
        return KeptFeatures(classifier, rows, between=between)
    if isinstance(body, ImageBody):
        kept = keep_image_states(body, rows, most_bytes=MOST_BYTES, between=between)
        return kept or LiveImages(body, most_bytes=MOST_BYTES)
    if not body.is_packed or any(name.startswith("embeddings.") for name in trained):
        return Live(classifier)
    blocks = body.blocks()
    frozen = [all(not parameter.requires_grad for parameter in block.parameters()) for block in blocks]
    n_frozen = frozen.index(False) if False in frozen else len(blocks)
    n_bytes = sum(row.n_tokens for row in rows) * 4 * int(body.model.config.hidden_size)
    if n_frozen == 0 or n_bytes > MOST_BYTES:
        return Live(classifier)
    return KeptStates(classifier, rows, n_frozen=n_frozen, between=between)
