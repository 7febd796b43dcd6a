"""What would it cost, and does it pay? Nothing is uploaded or started, and no account is needed.

    python examples/06_what_it_costs.py

A key in OPENAI_API_KEY is only used to ask whether the account may train. Prices that have changed go into a file of
your own, which the environment variable FTCLIENT_PRICES names.
"""

import os
from pathlib import Path

from rich import print  # noqa: A004 - plans print themselves

from ftclient import Client, Dataset, Supervised

client = Client.openai(api_key=os.environ.get("OPENAI_API_KEY", "none"))
data = Dataset.read(Path(__file__).with_name("data") / "support.jsonl")
plan = client.plan(data, model="gpt-4.1-mini", method=Supervised(n_epochs=3))
print(plan)

# The untuned model needs examples in its prompt to do as well: they cost something with every call.
use = plan.use(calls_per_day=2_000, shots=10)
print(f"\nIn use: ${use.tuned_usd_per_month:.2f} a month, or ${use.base_usd_per_month:.2f} untuned. {use.verdict()}\n")

print(client.offers(data, calls_per_day=2_000, shots=10))
client.close()
