"""Which queue does a letter belong to? A small encoder with a new last layer: seconds instead of minutes.

    python examples/15_text_classifier.py        some ten seconds; the first run downloads 83 MB

The data are those of `ftclient demo`, of whose answers only the queue is kept. The same job on a language model would
be `model="smollm2-135m", local=LocalOptions(task="classify")`.
"""

import json
import math

from ftclient import Classify, Client, Dataset, Head, LocalOptions, Supervised
from ftclient.demo import dataset_path


def labelled(example: dict) -> dict:
    """The letter, and its queue as the whole answer."""
    *asked, answer = example["messages"]
    return {"messages": [*asked, {"role": "assistant", "content": json.loads(answer["content"])["queue"]}]}


with Client.local() as client:
    train, valid, test = Dataset(map(labelled, Dataset.read(dataset_path("en")))).split(0.8, 0.1, 0.1, seed=7)
    local = LocalOptions(tune=Head(), classify=Classify(balance="weights"))
    method = Supervised(n_epochs=10, batch_size=8)
    job = client.train(client.plan(train, valid=valid, model="minilm-l6", method=method, local=local, seed=1))
    model = job.wait().model
    print(f"Tuned model: {model}")
    figures = job.classification()
    print(f"Validation: {figures.accuracy:.0%} right, macro F1 {figures.macro_f1:.2f}, {len(figures.per_class)} queues")

    letter = next(iter(test))["messages"][:-1]
    answer = client.openai.chat.completions.create(model=model, messages=letter, logprobs=True, top_logprobs=3)
    print(f"It answers: {answer.choices[0].message.content}")
    for label in answer.choices[0].logprobs.content[0].top_logprobs:
        print(f"  {math.exp(label.logprob):6.1%}  {label.token}")
