"""The same steps of DPO by TRL's DPOTrainer, in an environment that has trl: python trl_dpo.py MODEL_DIR FOLDER.

FOLDER is what `ours_dpo ... steps` left: settings.json, the adapters `start` and `end`, steps.json and held.json with
the ids of pairs.
Prints one JSON line.
"""

import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

# isort: split
import torch
from datasets import Dataset
from peft import PeftModel, load_peft_weights, set_peft_model_state_dict
from torch.utils.data import SequentialSampler
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer


class Trainer(DPOTrainer):
    """Takes pairs that are tokenised already, in their order, and keeps each step's numbers unrounded."""

    def __init__(self, *args, **more) -> None:
        self.losses = []
        super().__init__(*args, **more)

    def _prepare_dataset(self, dataset, *_args, **_more):
        return dataset

    def _get_train_sampler(self, train_dataset=None):
        return SequentialSampler(self.train_dataset if train_dataset is None else train_dataset)

    def compute_loss(self, *args, **more):
        loss = super().compute_loss(*args, **more)
        self.losses.append(float(loss.detach() if torch.is_tensor(loss) else loss[0].detach()))
        return loss


def main() -> None:
    """Train and print."""
    model_dir, folder = sys.argv[1], Path(sys.argv[2])
    pairs = json.loads((folder / "steps.json").read_text(encoding="utf-8"))
    held = Dataset.from_list(json.loads((folder / "held.json").read_text(encoding="utf-8")))
    base = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, folder / "start", is_trainable=True)
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    args = config(json.loads((folder / "settings.json").read_text(encoding="utf-8")))
    steps = Dataset.from_list(pairs)
    trainer = Trainer(model, args=args, train_dataset=steps, eval_dataset=held, processing_class=tokenizer)
    start = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - start
    figures = {
        "losses": trainer.losses,
        "grad_norms": [entry["grad_norm"] for entry in trainer.state.log_history if "grad_norm" in entry],
        "tokens_per_s": sum(2 * len(p["prompt_ids"]) + len(p["chosen_ids"] + p["rejected_ids"]) for p in pairs)
        / seconds,
    }
    trainer.losses = []
    set_peft_model_state_dict(trainer.model, load_peft_weights(str(folder / "end")))
    found = trainer.evaluate()
    figures["held_loss"] = trainer.losses[0]
    figures["held_rewards"] = [found["eval_rewards/chosen"], found["eval_rewards/rejected"]]
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({**figures, "peak_bytes": peak_bytes}))


def config(settings: dict[str, float]) -> DPOConfig:
    """What `ours_dpo` took; nothing is computed twice to save memory."""
    return DPOConfig(
        output_dir=tempfile.mkdtemp(),
        beta=settings["beta"],
        max_length=1024,
        num_train_epochs=1,
        per_device_train_batch_size=settings["batch_size"],
        per_device_eval_batch_size=settings["batch_size"],
        learning_rate=settings["learning_rate"],
        lr_scheduler_type="constant",
        max_grad_norm=settings["max_grad_norm"],
        weight_decay=0.0,
        bf16=False,
        fp16=False,
        use_cpu=True,
        gradient_checkpointing=False,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )


if __name__ == "__main__":
    main()
