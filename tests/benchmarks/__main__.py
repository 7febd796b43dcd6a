"""Runs one benchmark by name."""

from tests.benchmarks.runner import main

main()
