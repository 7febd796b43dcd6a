"""Does tuning help? Train on 240 letters, then ask base and tuned model the same 30 that neither has seen.

    python examples/05_tune_and_compare.py        some three minutes on two CPU cores

FTCLIENT_BACKEND names another backend (see `02_swap_backends.py`). The data are those of `ftclient demo`.
"""

import rich

from ftclient import Client, Dataset, Supervised
from ftclient.demo import dataset_path

BASE = "smollm2-135m"

with Client.from_env() as client:
    train, valid, test = Dataset.read(dataset_path("en")).split(0.8, 0.1, 0.1, seed=7)
    method = Supervised(n_epochs=4, batch_size=8)
    plan = client.plan(train, valid=valid, model=BASE, method=method, suffix="tickets", seed=1)
    rich.print(plan)
    job = client.train(plan)
    job.watch()
    comparison = client.evaluate(test, models=[BASE, job.wait().model])
    rich.print(comparison)
