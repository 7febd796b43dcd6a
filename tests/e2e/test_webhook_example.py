"""The webhook example takes signed events and no others."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import httpx2

from ftclient import Client, Dataset, Supervised
from tests.e2e.serving import ROOT, simulated_server

KEY = b"thirty-two bytes of a secret key"
SECRET = "whsec_" + base64.b64encode(KEY).decode()


def signed(body: str, key: bytes) -> dict[str, str]:
    """Return the headers of a call, by the Standard Webhooks scheme."""
    at = str(int(time.time()))
    digest = hmac.new(key, f"wh_1.{at}.{body}".encode(), hashlib.sha256).digest()
    signature = "v1," + base64.b64encode(digest).decode()
    return {"webhook-id": "wh_1", "webhook-timestamp": at, "webhook-signature": signature}


def test_a_signed_event_brings_the_result_and_any_other_is_refused(tmp_path: Path) -> None:
    with simulated_server(tmp_path / "server") as url:
        with Client.at(url, home=tmp_path / "home") as client:
            said = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
            data = Dataset({"messages": said} for _ in range(10))
            job = client.train(client.plan(data, model="smollm2-135m", method=Supervised(n_epochs=1)))
            model = job.wait(timeout_s=60).model
        env = {**os.environ, "FTCLIENT_BACKEND": url, "OPENAI_WEBHOOK_SECRET": SECRET, "FTCLIENT_HOME": str(tmp_path)}
        command = [sys.executable, str(ROOT / "examples/11_webhook.py"), "0"]
        with subprocess.Popen(
            command, env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as listener:
            assert listener.stdout
            port = re.search(r"\d+", listener.stdout.readline()).group()
            event = {"id": "evt_1", "object": "event", "created_at": 1, "data": {"id": job.id}}
            body = json.dumps({**event, "type": "fine_tuning.job.succeeded"})
            where = f"http://127.0.0.1:{port}/"
            forged = httpx2.post(where, content=body, headers=signed(body, b"a key that somebody has guessed."))
            genuine = httpx2.post(where, content=body, headers=signed(body, KEY))
            told = listener.stdout.readline()
            listener.kill()
    assert (forged.status_code, genuine.status_code) == (400, 200)
    assert told.strip() == f"{job.id} is done; best model: {model}"
