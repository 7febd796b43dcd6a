"""Train a small open model on this machine, in ten lines. No account, no cost.

    python examples/01_train_locally.py

The first run downloads SmolLM2-135M-Instruct. Twelve examples only show how it goes; `05_tune_and_compare.py` trains
on enough to learn from.
"""

from pathlib import Path

from ftclient import Client, Dataset, Supervised

client = Client.local()
data = Dataset.read(Path(__file__).with_name("data") / "support.jsonl")
plan = client.plan(data, model="smollm2-135m", method=Supervised(n_epochs=2, batch_size=4), suffix="first", seed=1)
job = client.train(plan)
job.watch()
result = job.wait()
print("Tuned model:", result.model)
question = next(iter(data))["messages"][:2]
print("It answers:", client.chat(result.model, question, temperature=0))
client.close()
