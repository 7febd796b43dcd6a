"""The blocks below the lowest trained one never change, so what they say of each token is computed once, and kept.

Every token of the training and validation files has a place in one tree of all their sequences; tokens behind equal
prefixes share it. The states lie in one file in that order, mapped into memory.

Shapes: U places of the tree, T tokens of a pack, D width.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from local_backend.engine import decoder
from local_backend.engine.attention import plan_attention
from local_backend.engine.checkpoint import whole_folder
from local_backend.engine.packing import Pack, pack
from local_backend.engine.template import Rendered

SHARE_OF_FREE_DISK = 0.25
"""No more than this is taken; where it does not suffice, nothing is kept and every epoch computes anew."""


def frozen_blocks(model: Any) -> int:
    """How many blocks, from the first on, neither train nor depend on what trains."""
    if model.get_input_embeddings().weight.requires_grad:
        return 0
    trains = [any(p.requires_grad for p in block.parameters()) for block in model.model.layers]
    return trains.index(True) if True in trains else len(trains)


def states_bytes(n_places: int, model: Any) -> int:
    """Size of the file."""
    return n_places * int(model.config.hidden_size) * int(model.dtype.itemsize)


class FrozenStates:
    """States of all tokens of a job behind its first `n_blocks` blocks."""

    def __init__(self, model: Any, sequences: Sequence[Rendered], *, n_blocks: int) -> None:
        self.n_blocks = n_blocks
        self._model = model
        self._index = {id(sequence): i for i, sequence in enumerate(sequences)}
        tree = pack(sequences)
        self._places = tree.places
        self._n_places = tree.n_tokens
        self._states_UD: torch.Tensor | None = None

    @property
    def n_bytes(self) -> int:
        """Size of the file."""
        return states_bytes(self._n_places, self._model)

    def fits(self, folder: Path) -> bool:
        """Whether the disk has room enough."""
        folder.mkdir(parents=True, exist_ok=True)
        return self.n_bytes < SHARE_OF_FREE_DISK * shutil.disk_usage(folder).free

    def fill(self, folder: Path, *, packs: Iterable[tuple[list[int], Pack]], between: Callable[[], None]) -> None:
        """Compute the states, or map those that an earlier start of the job has left."""
        key = {"places": self._n_places, "blocks": self.n_blocks, "dtype": str(self._model.dtype)}
        if not (folder / "key.json").is_file() or json.loads((folder / "key.json").read_text()) != key:
            with whole_folder(folder) as new, torch.no_grad():
                states_UD = self._map(new / "states", is_written=True)
                for _, part in packs:
                    between()
                    states_UD[self._tree_places(part)] = self._compute(part).cpu()
                (new / "key.json").write_text(json.dumps(key), encoding="utf-8")
        self._states_UD = self._map(folder / "states", is_written=False)

    def states(self, part: Pack) -> torch.Tensor:
        """The states of a pack's tokens (T, D)."""
        if self._states_UD is None:
            raise RuntimeError("fill() comes before states()")
        return self._states_UD[self._tree_places(part)].to(self._model.device)

    def _map(self, file: Path, *, is_written: bool) -> torch.Tensor:
        shape = (self._n_places, int(self._model.config.hidden_size))
        flat = torch.from_file(str(file), shared=is_written, size=shape[0] * shape[1], dtype=self._model.dtype)
        return flat.view(shape)

    def _compute(self, part: Pack) -> torch.Tensor:
        plan = plan_attention(part)
        blocks = self._model.model.layers[: self.n_blocks]
        return decoder.hidden_states(self._model, decoder.embed(self._model, plan), plan=plan, layers=blocks)

    def _tree_places(self, part: Pack) -> torch.Tensor:
        """Where in the tree of everything each token of a pack stands."""
        places_T = torch.empty(part.n_tokens, dtype=torch.long)
        for sequence, places in zip(part.sequences, part.places, strict=True):
            places_T[torch.tensor(places)] = torch.tensor(self._places[self._index[id(sequence)]])
        return places_T
