"""Answering with a base model and its adapters: batched, with cached keys and values, streamed."""
