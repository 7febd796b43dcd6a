"""One epoch of LoRA by this project's engine: python -m tests.benchmarks.training_runs.ours MODEL_DIR FILE N [TUNE].

Prints one JSON line. Real tokens are those of the rendered conversations; FLOP are only those that the maths needs.
"""

import json
import resource
import sys
import time
from pathlib import Path

import local_backend.engine  # noqa: F401 - before torch: it sets OpenMP's wait policy

# isort: split
import torch

from local_backend.engine.device import choose_machine
from local_backend.engine.matmul import times_transposed
from local_backend.engine.network import Network, load_network
from local_backend.engine.packing import fitting_micro_batch_tokens
from local_backend.engine.template import Rendered, Template
from local_backend.engine.tuning import choose_weights

BATCH_SIZE = 32


def main() -> None:
    """Train and print."""
    model_dir, file, n_examples = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    machine = choose_machine({})
    torch.set_num_threads(machine.threads)
    template = Template.of(model_dir)
    lines = file.read_text(encoding="utf-8").splitlines()[:n_examples]
    sequences = [one for line in lines for one in template.render(json.loads(line))]
    network = load_network(model_dir, machine)
    choose_weights(network.model, {"type": "lora", "rank": 16, "alpha": 32}, seed=0)
    flops = sum(step_flops(network, batch) for batch in batches(sequences))
    start, start_cpu = time.perf_counter(), time.process_time()
    losses = [step.loss for step in epoch(network, sequences)]
    seconds, cpu_s = time.perf_counter() - start, time.process_time() - start_cpu
    n_tokens = sum(len(sequence.ids) for sequence in sequences)
    figures = {
        "tokens_per_s": n_tokens / seconds,
        "tokens_per_cpu_s": n_tokens / cpu_s,
        "loss": sum(losses) / len(losses),
        "share_of_matmul_rate": flops / seconds / torchs_matmul_rate(),
        "share_of_onednns_rate": flops / seconds / onednns_matmul_rate(),
    }
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({**figures, "peak_bytes": peak_bytes}))


def onednns_matmul_rate() -> float:
    """Operations a second of the engine's own product of 1024 fp32 matrices."""
    x = torch.randn(1024, 1024)
    best_s = float("inf")
    for _ in range(4):
        start = time.perf_counter()
        times_transposed(x, x)
        best_s = min(best_s, time.perf_counter() - start)
    return 2 * 1024**3 / best_s


def torchs_matmul_rate() -> float:
    """Operations a second of torch's own product of 2048 fp32 matrices."""
    x = torch.randn(2048, 2048)
    best_s = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        x @ x
        best_s = min(best_s, time.perf_counter() - start)
    return 2 * 2048**3 / best_s


def batches(sequences: list[Rendered]) -> list[list[Rendered]]:
    """The steps of an epoch."""
    return [sequences[i : i + BATCH_SIZE] for i in range(0, len(sequences), BATCH_SIZE)]


def epoch(network: Network, sequences: list[Rendered]):
    """Train on each batch once, as the loop does."""
    parameters = [parameter for _, parameter in network.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=2e-4, weight_decay=0.0, fused=True)
    for batch in batches(sequences):
        optimizer.zero_grad(set_to_none=True)
        yield network.train_step(batch, max_tokens=fitting_micro_batch_tokens(batch))
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()


def step_flops(network: Network, batch: list[Rendered]) -> float:
    """Frozen weights forward and back, LoRA's, the output layer's, and causal attention's scores and sums."""
    config = network.model.config
    head = config.vocab_size * config.hidden_size
    low_rank = sum(p.numel() for _, p in network.parameters())
    blocks = sum(p.numel() for p in network.model.model.layers.parameters() if p.dim() > 1) - low_rank
    width = config.num_attention_heads * config.head_dim
    total = 0.0
    for _, part in network.packs([[one] for one in batch], max_tokens=fitting_micro_batch_tokens(batch)):
        seen = float((part.positions_T + 1).sum())
        attention = 12 * config.num_hidden_layers * width * seen
        total += part.n_tokens * (4 * blocks + 6 * low_rank) + 4 * head * len(part.row_targets_R) + attention
    return total


if __name__ == "__main__":
    main()
