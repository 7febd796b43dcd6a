"""Benchmarks: `python -m tests.benchmarks NAME [--data DIR] [--json]`. One file a benchmark, see `runner`."""
