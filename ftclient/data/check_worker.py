"""The worker process of a check: blocks in on stdin, results out on stdout. See `ftclient.data.check_processes`."""

from __future__ import annotations

import gc
import sys

from ftclient.data.check_processes import HEADER, LENGTH, Rules, result_to_wire


def main() -> None:
    """Check blocks until stdin ends."""
    source, target = sys.stdin.buffer, sys.stdout.buffer
    rules = Rules.from_wire(source.read(LENGTH.unpack(source.read(LENGTH.size))[0]))
    checker = rules.checker()
    gc.freeze()
    gc.set_threshold(50_000)  # parsed lines have no cycles; looking for them takes a tenth of the time
    while len(header := source.read(HEADER.size)) == HEADER.size:
        first_line, n_bytes = HEADER.unpack(header)
        answer = result_to_wire(checker.check(source.read(n_bytes), first_line))
        target.write(LENGTH.pack(len(answer)) + answer)
        target.flush()
