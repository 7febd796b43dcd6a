"""What a task would take, before it runs: tokens, memory, time, and how it would be computed."""
