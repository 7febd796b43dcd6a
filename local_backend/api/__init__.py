"""OpenAI's endpoints, one module a resource, and our own under `/v1/local`."""
