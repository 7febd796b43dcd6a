"""Hear from OpenAI that a job has ended, instead of asking again and again.

    export OPENAI_WEBHOOK_SECRET=whsec_...       as shown when the webhook was made
    python examples/11_webhook.py 8080           then let OpenAI's webhook point here, through your HTTPS proxy

The official client checks the signature; the result is read as always. Events may come twice or late, so whatever is
done with a result should do no harm when it is done again.
"""

import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

from openai import InvalidWebhookSignatureError

from ftclient import Client

MOST_BYTES = 1 << 20


class Webhook(BaseHTTPRequestHandler):
    """Answers OpenAI's calls."""

    client: Client

    def do_POST(self) -> None:
        """Take one event."""
        n_bytes = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(min(n_bytes, MOST_BYTES)).decode()
        try:
            event = self.client.openai.webhooks.unwrap(body, dict(self.headers))
        except (InvalidWebhookSignatureError, ValueError):
            self.send_error(400)
            return
        self.send_response(200)  # at once: what is not answered within seconds is sent again
        self.end_headers()
        if event.type == "fine_tuning.job.succeeded":
            result = self.client.job(event.data.id).result()
            print(f"{result.job_id} is done; best model: {result.best_model}", flush=True)
        elif event.type.startswith("fine_tuning.job."):
            print(f"{event.data.id} has ended: {event.type}", flush=True)


if __name__ == "__main__":
    with Client.from_env() as Webhook.client, HTTPServer(("127.0.0.1", int(sys.argv[1])), Webhook) as server:
        print(f"Listening on port {server.server_port}", flush=True)
        server.serve_forever()
