"""The same epoch by TRL's SFTTrainer, in an environment that has trl: python trl_sft.py MODEL_DIR FILE N pad|pack.

Prints one JSON line. TRL finds the tokens to train by generation marks, so the template below writes them; otherwise it
writes what SmolLM2's own template does.
"""

import json
import os
import resource
import sys
import tempfile
import time

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

# isort: split
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoTokenizer
from trl import SFTConfig, SFTTrainer

TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% if m['role'] == 'assistant' %}{% generation %}"
    "{{ m['content'] + '<|im_end|>' }}{% endgeneration %}{% else %}{{ m['content'] + '<|im_end|>' }}{% endif %}"
    "{{ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def main() -> None:
    """Train and print."""
    model_dir, file, n_examples, mode = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
    examples = load_dataset("json", data_files=file, split=f"train[:{n_examples}]")
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    tokenizer.chat_template = TEMPLATE
    n_tokens = sum(len(tokenizer.apply_chat_template(row["messages"])["input_ids"]) for row in examples)
    trainer = SFTTrainer(
        model_dir,
        args=config(mode),
        train_dataset=examples,
        processing_class=tokenizer,
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"),
    )
    start, start_cpu = time.perf_counter(), time.process_time()
    result = trainer.train()
    seconds, cpu_s = time.perf_counter() - start, time.process_time() - start_cpu
    figures = {"tokens_per_s": n_tokens / seconds, "tokens_per_cpu_s": n_tokens / cpu_s, "loss": result.training_loss}
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({**figures, "peak_bytes": peak_bytes}))


def config(mode: str) -> SFTConfig:
    """Padded batches of 8 (its default way) or packed rows of 1,024 tokens."""
    size = {"packing": True, "per_device_train_batch_size": 1} if mode == "pack" else {"per_device_train_batch_size": 8}
    return SFTConfig(
        output_dir=tempfile.mkdtemp(),
        max_length=1024,
        num_train_epochs=1,
        learning_rate=2e-4,
        bf16=False,
        fp16=False,
        use_cpu=True,
        logging_steps=5,
        save_strategy="no",
        report_to=[],
        assistant_only_loss=True,
        gradient_checkpointing=False,
        model_init_kwargs={"dtype": "float32"},
        disable_tqdm=True,
        **size,
    )


if __name__ == "__main__":
    main()
