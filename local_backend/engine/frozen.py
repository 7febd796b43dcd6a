"""The blocks below the lowest trained one never change, so what they say of each token is computed once, and kept.

Every token of the training and validation files has a place in one tree of all their sequences; tokens behind equal
prefixes share it. The states lie in one file in that order, mapped into memory.

Shapes: U places of the tree, N states that are kept, T tokens of a pack, R rows of a pack, D width.
"""

from __future__ import annotations

import errno
import json
import os
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
    if not decoder.supports(model.config) or model.get_input_embeddings().weight.requires_grad:
        return 0
    trains = [any(p.requires_grad for p in block.parameters()) for block in model.model.layers]
    return trains.index(True) if True in trains else len(trains)


class FrozenStates:
    """What the first `n_blocks` blocks say of all tokens of a job.

    Where those are all blocks, only what the output layer reads is kept: the normed states at trained positions.
    """

    def __init__(self, model: Any, sequences: Sequence[Rendered], *, n_blocks: int) -> None:
        self.n_blocks = n_blocks
        self.is_final = n_blocks == len(model.model.layers) and not model.model.norm.weight.requires_grad
        """Whether `states` are those that the output layer reads, one a row."""
        self._model = model
        tree = pack(sequences)
        self._places = {id(one): torch.tensor(places) for one, places in zip(sequences, tree.places, strict=True)}
        kept = torch.unique(tree.row_positions_R) if self.is_final else torch.arange(tree.n_tokens)
        self._n_kept = len(kept)
        self._kept_U = torch.full((tree.n_tokens,), -1).index_copy_(0, kept, torch.arange(len(kept)))
        """For each place of the tree, which of the kept states is its own."""
        self._states_ND: torch.Tensor | None = None

    @property
    def n_bytes(self) -> int:
        """Size of the file."""
        return self._n_kept * int(self._model.config.hidden_size) * int(self._model.dtype.itemsize)

    def fits(self, folder: Path) -> bool:
        """Whether the states are in `folder` already, from an earlier start of the job, or the disk has room enough."""
        if self._are_in(folder):
            return True
        folder.parent.mkdir(parents=True, exist_ok=True)
        return self.n_bytes < SHARE_OF_FREE_DISK * shutil.disk_usage(folder.parent).free

    def fill(self, folder: Path, *, packs: Iterable[tuple[list[int], Pack]], between: Callable[[], None]) -> None:
        """Compute the states, or map those that an earlier start of the job has left."""
        if not self._are_in(folder):
            with whole_folder(folder) as new, torch.no_grad():
                _reserve(new / "states", n_bytes=self.n_bytes)
                states_ND = self._map(new / "states", is_written=True)
                for _, part in packs:
                    between()
                    states_ND[self._which(part)] = self._compute(part).cpu()
                (new / "key.json").write_text(json.dumps(self._key()), encoding="utf-8")
        self._states_ND = self._map(folder / "states", is_written=False)

    def _key(self) -> dict[str, Any]:
        return {"states": self._n_kept, "blocks": self.n_blocks, "dtype": str(self._model.dtype)}

    def _are_in(self, folder: Path) -> bool:
        key = folder / "key.json"
        return key.is_file() and json.loads(key.read_text(encoding="utf-8")) == self._key()

    def states(self, part: Pack) -> torch.Tensor:
        """The states of a pack's tokens (T, D), or if they are final, of its rows (R, D)."""
        if self._states_ND is None:
            raise RuntimeError("fill() comes before states()")
        return self._states_ND[self._which(part)].to(self._model.device)

    def _map(self, file: Path, *, is_written: bool) -> torch.Tensor:
        shape = (self._n_kept, int(self._model.config.hidden_size))
        flat = torch.from_file(str(file), shared=is_written, size=shape[0] * shape[1], dtype=self._model.dtype)
        return flat.view(shape)

    def _compute(self, part: Pack) -> torch.Tensor:
        model, plan = self._model, plan_attention(part)
        embedded = decoder.embed(model, plan)
        if not self.is_final:
            return decoder.hidden_states(model, embedded, plan=plan, layers=model.model.layers[: self.n_blocks])
        rows_R = part.row_positions_R.to(embedded.device)
        return decoder.final_norm(model, decoder.hidden_states(model, embedded, plan=plan, rows_R=rows_R))

    def _which(self, part: Pack) -> torch.Tensor:
        """Which of the kept states are those of a pack's tokens or rows."""
        places_T = torch.empty(part.n_tokens, dtype=torch.long)
        for sequence, places in zip(part.sequences, part.places, strict=True):
            places_T[torch.tensor(places)] = self._places[id(sequence)]
        return self._kept_U[places_T[part.row_positions_R] if self.is_final else places_T]


def _reserve(file: Path, *, n_bytes: int) -> None:
    """Take the room of a file that is to be mapped: a disk that is full when a page is written kills the process."""
    if not hasattr(os, "posix_fallocate"):  # macOS
        return
    with file.open("xb") as opened:
        try:
            os.posix_fallocate(opened.fileno(), 0, n_bytes)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):  # the file system cannot
                raise
