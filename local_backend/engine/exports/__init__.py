"""Taking a tuned model along: adapter, merged weights, GGUF, with the lines that other servers need."""
