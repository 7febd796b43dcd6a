"""Measure what training costs on this machine: `python -m local_backend.engine.forecast.measure REQUEST`.

It runs in a process of its own, since it takes memory and sets the number of threads. REQUEST is JSON; so is each line
that it writes: {"done": ..., "of": ..., "what": ...} as it goes on, and at last {"costs": ...}.

What is timed is the engine's own code on some blocks of the real model, at sizes that no other pack has: kernels are
compiled for each size anew in a real run, too.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from local_backend.engine.device import Machine, choose_machine
from local_backend.engine.forecast.costs import Costs, Rate, Work, fit, fit_rows
from local_backend.engine.forecast.load import work_of
from local_backend.engine.forecast.size import Shape, as_trained, with_trained_weights
from local_backend.engine.frozen import frozen_blocks
from local_backend.engine.network import Network, load_network
from local_backend.engine.packing import Pack, pack
from local_backend.engine.template import Rendered

READY, TOTAL = 1, 5
MOST_BLOCKS = 4
BLOCKS_BYTES = 64 << 20
"""So many weights are taken that they do not stay in the processor's cache, as those of a whole model do not."""
MOST_LOADED_BYTES = 2 << 30
"""Larger models are not loaded: some blocks of their shape are made instead."""
WRITTEN_BYTES, MOST_WRITTEN_BYTES = 48 << 20, 1 << 30
"""A file of that size is written, or one as large as a resume point: disks are quick with the first part of a large
file, and slow with the rest."""
MOST_S = 5.0
"""Measuring packs ends then, once there are enough."""
FEWEST_PACKS = 4
N_ROWS = (96, 400)
"""Sizes at which the output layer is timed."""

_KINDS: tuple[tuple[int, tuple[int, ...]], ...] = (
    # tokens that all share, and each sequence's own
    (0, (32,) * 24),
    (0, (40,) * 6),
    (0, (700,)),
    (512, (16,) * 16),
    (0, (192,) * 4),
    (0, (48,) * 16),
    (0, (300, 400)),
)


@dataclass(frozen=True)
class Request:
    """What to measure."""

    model_dir: Path
    tune: Mapping[str, Any]
    runtime: Mapping[str, Any]
    folder: Path
    """Where checkpoints are written."""


def main() -> None:
    """Measure, and write lines of JSON."""
    _tell(READY, "the engine is loaded")
    given = json.loads(sys.argv[1])
    request = Request(Path(given["model_dir"]), given["tune"], given["runtime"], Path(given["folder"]))
    print(json.dumps({"costs": asdict(measure(request))}), flush=True)  # noqa: T201 - this is the answer


def measure(request: Request) -> Costs:
    """Measure everything; `start_s` is for the parent to know."""
    machine = as_trained(choose_machine(request.runtime), request.tune)
    torch.set_num_threads(machine.threads)
    network, load_s = _load(request, machine)
    process_bytes = max(0, _resident_bytes() - _weights_bytes(network.model))
    _tell(2, "the model is loaded")
    forward, train = _blocks(network, machine)
    watts = _watts(machine)
    _tell(3, "blocks are measured")
    forward, train = _with_head(network, machine, forward, train)
    per_step_s, per_weight_s = _optimizer(network, machine)
    _tell(4, "output layer and optimizer are measured")
    n_trained = sum(parameter.numel() for _, parameter in network.parameters())
    n_bytes = max(WRITTEN_BYTES, min(MOST_WRITTEN_BYTES, 12 * n_trained))  # weights and two moments, fp32
    write_bytes_per_s, sync_s = _disk(request.folder, n_bytes=n_bytes)
    return Costs(
        start_s=0.0,
        load_s=load_s,
        process_bytes=process_bytes,
        train=train,
        forward=forward,
        per_step_s=per_step_s,
        per_trained_weight_s=per_weight_s,
        write_bytes_per_s=write_bytes_per_s,
        sync_s=sync_s,
        watts=watts,
    )


def _tell(done: int, what: str) -> None:
    print(json.dumps({"done": done, "of": TOTAL, "what": what}), flush=True)  # noqa: T201 - the parent reads it


def _load(request: Request, machine: Machine) -> tuple[Network, float]:
    """The model with what trains, or some blocks of its shape; and how long a job takes to load all of it."""
    started = time.perf_counter()
    files = list(request.model_dir.glob("*.safetensors"))
    n_bytes = sum(file.stat().st_size for file in files)
    if n_bytes <= MOST_LOADED_BYTES:
        network = load_network(request.model_dir, machine)
        with_trained_weights(network.model, request.tune)
        return network, time.perf_counter() - started
    network = Network(_made(request.model_dir, machine), machine)
    read_s = n_bytes * _read_s(files[0]) / MOST_LOADED_BYTES
    return network, read_s + time.perf_counter() - started


def _made(model_dir: Path, machine: Machine) -> Any:
    """Blocks of a model's shape, with weights of no meaning."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(model_dir, local_files_only=True).get_text_config()
    shape = Shape.of(config)
    config.num_hidden_layers = shape.blocks_of(BLOCKS_BYTES // machine.dtype.itemsize, most=MOST_BLOCKS)
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[: config.num_hidden_layers]
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=machine.dtype).to(machine.device)
    return model.train()


def _read_s(file: Path) -> float:
    """Seconds that reading MOST_LOADED_BYTES of a file would take, by its first part."""
    n_bytes, started = 0, time.perf_counter()
    with file.open("rb") as opened:
        while n_bytes < WRITTEN_BYTES and (piece := opened.read(1 << 20)):
            n_bytes += len(piece)
    return (time.perf_counter() - started) * MOST_LOADED_BYTES / max(1, n_bytes)


def _blocks(network: Network, machine: Machine) -> tuple[Rate, Rate]:
    """Rates of the blocks, without and with the backward pass (none where no block trains)."""
    blocks = list(network.model.model.layers)
    n_trained = len(blocks) - frozen_blocks(network.model)
    few = Shape.of(network.model.config).blocks_of(BLOCKS_BYTES // machine.dtype.itemsize, most=MOST_BLOCKS)
    try:
        forward = _rate(network, blocks[: min(few, len(blocks))], machine, is_train=False)
        trained = blocks[len(blocks) - n_trained :][-few:] if n_trained else []
        train = _rate(network, trained, machine, is_train=True) if trained else Rate()
    finally:
        network.model.model.layers = nn.ModuleList(blocks)
    return forward, train


def _rate(network: Network, blocks: Sequence[nn.Module], machine: Machine, *, is_train: bool) -> Rate:
    """Time packs of several kinds through all of some blocks, and through one."""
    dice = random.Random(0)  # noqa: S311 - repeatable sizes
    vocabulary = int(network.model.config.get_text_config().vocab_size)
    works: list[Work] = []
    seconds: list[float] = []
    deadline = time.perf_counter() + (MOST_S if is_train else MOST_S / 2)
    _once(network, blocks[-1:], _pack(_KINDS[0], dice, vocabulary), machine, is_train=is_train)
    for kind, n_blocks in _runs(len(blocks)):
        if len(works) >= FEWEST_PACKS and time.perf_counter() > deadline:
            break
        part = _pack(kind, dice, vocabulary)
        seconds.append(_once(network, blocks[-n_blocks:], part, machine, is_train=is_train))
        works.append(work_of(part, n_blocks=n_blocks, shape=Shape.of(network.model.config)))
    return fit(works, seconds)


def _runs(n_blocks: int) -> Iterator[tuple[tuple[int, tuple[int, ...]], int]]:
    """Every kind twice, and now and then with one block only."""
    for turn in range(2):
        for i, kind in enumerate(_KINDS):
            yield kind, n_blocks
            if n_blocks > 1 and i < 2 + turn:
                yield kind, 1


def _once(network: Network, blocks: Sequence[nn.Module], part: Pack, machine: Machine, *, is_train: bool) -> float:
    network.model.model.layers = nn.ModuleList(blocks)
    _wait(machine)
    started = time.perf_counter()
    if is_train:
        hidden_RD = network.hidden(part)
        hidden_RD.backward(torch.full_like(hidden_RD, 1e-3))  # type: ignore[no-untyped-call]
    else:
        with torch.no_grad():
            network.hidden(part)
    _wait(machine)
    return time.perf_counter() - started


def _pack(kind: tuple[int, tuple[int, ...]], dice: random.Random, vocabulary: int) -> Pack:
    """A pack of about these lengths; the latter half of what is its own trains."""
    n_shared, lengths = kind
    shared = [dice.randrange(vocabulary) for _ in range(n_shared and n_shared + dice.randrange(16))]
    sequences = []
    for length in lengths:
        n = length + dice.randrange(1 + length // 16)
        own = [dice.randrange(vocabulary) for _ in range(n)]
        sequences.append(Rendered(shared + own, [0.0] * (len(shared) + n // 2) + [1.0] * (n - n // 2)))
    return pack(sequences)


def _with_head(network: Network, machine: Machine, forward: Rate, train: Rate) -> tuple[Rate, Rate]:
    """The rates with those of the output layer in them."""
    width = int(network.model.config.get_text_config().hidden_size)
    vocabulary = len(network.model.get_output_embeddings().weight)
    trains_below = any(p.requires_grad for p in network.model.model.parameters())
    times: dict[bool, list[float]] = {False: [], True: []}
    n_rows = []
    for n in (N_ROWS[0], *N_ROWS, *(n + 24 for n in N_ROWS)):
        n_rows.append(n)
        part = pack([Rendered(_ids(n + 1, vocabulary), [0.0] + [1.0] * n)])
        hidden_RD = torch.randn(n, width, dtype=machine.dtype, device=machine.device, requires_grad=trains_below)
        times[False].append(_timed(machine, network.score_pack, part, hidden_RD))
        times[True].append(_timed(machine, network.backward, part, hidden_RD, torch.full((n,), 1 / n)))
    pairs = [fit_rows(n_rows[1:], times[is_train][1:]) for is_train in (False, True)]  # the first is a rehearsal
    with_rows = [
        Rate(rate.per_pack_s + pack_s, rate.per_block_s, rate.per_block_token_s, rate.per_block_pair_s, row_s)
        for rate, (pack_s, row_s) in zip((forward, train), pairs, strict=True)
    ]
    return with_rows[0], with_rows[1]


def _ids(n: int, vocabulary: int) -> list[int]:
    return [(7 * i + 3) % vocabulary for i in range(n)]


def _timed(machine: Machine, call: Callable[..., Any], *arguments: Any) -> float:
    _wait(machine)
    started = time.perf_counter()
    call(*arguments)
    _wait(machine)
    return time.perf_counter() - started


def _optimizer(network: Network, machine: Machine) -> tuple[float, float]:
    """Seconds a step, and seconds a step for each weight: by all of what trains, and by a few of them."""
    parameters = [parameter for _, parameter in network.parameters()]
    times = []
    for some in (parameters, parameters[: max(1, len(parameters) // 8)]):
        for parameter in some:
            parameter.grad = torch.full_like(parameter, 1e-3)
        optimizer = torch.optim.AdamW(some, lr=0.0, fused=True)
        steps = [_timed(machine, _step, some, optimizer) for _ in range(3)]
        times.append((sum(parameter.numel() for parameter in some), min(steps[1:])))
    (n_all, all_s), (n_few, few_s) = times
    per_weight_s = max(0.0, all_s - few_s) / (n_all - n_few) if n_all > n_few else all_s / n_all
    return max(0.0, all_s - per_weight_s * n_all), per_weight_s


def _step(parameters: list[nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None], foreach=True)
    optimizer.step()


def _disk(folder: Path, *, n_bytes: int) -> tuple[float, float]:
    """Bytes a second of a file so large, and seconds of a small one, both until they are safe."""
    data = os.urandom(1 << 20)
    n_bytes = min(n_bytes, max(WRITTEN_BYTES, shutil.disk_usage(folder).free // 8))
    with tempfile.TemporaryDirectory(dir=folder) as place:
        small_s = min(_written_s(Path(place) / f"small-{i}", data[:100], 1) for i in range(3))
        large_s = _written_s(Path(place) / "large", data, n_bytes >> 20)
    return n_bytes / max(1e-6, large_s - small_s), small_s


def _written_s(file: Path, data: bytes, times: int) -> float:
    started = time.perf_counter()
    with file.open("wb") as opened:
        for _ in range(times):
            opened.write(data)
        opened.flush()
        os.fsync(opened.fileno())
    return time.perf_counter() - started


def _watts(machine: Machine) -> float | None:
    """What the GPU draws right after work, where it and its driver's library say so."""
    if machine.device.type != "cuda":
        return None
    try:
        return torch.cuda.power_draw(machine.device) / 1000
    except (ImportError, RuntimeError):  # no library of the driver's, or a GPU without a meter
        return None


def _weights_bytes(model: nn.Module) -> int:
    """Of weights in the machine's memory: those on a GPU are not in it."""
    return sum(p.numel() * p.itemsize for p in model.parameters() if p.device.type == "cpu")


def _resident_bytes() -> int:
    """What this process holds in memory now."""
    statm = Path("/proc/self/statm")
    if statm.is_file():
        return int(statm.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _wait(machine: Machine) -> None:
    if machine.device.type == "cuda":
        torch.cuda.synchronize(machine.device)


if __name__ == "__main__":
    main()
