"""How hypothesis searches: a test run tries the same examples each time, so that its result is the commit's own.

`pytest --hypothesis-profile=search` tries other, and many more, examples on each run.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

_UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""Examples may take their time: a busy machine is no reason to fail."""

settings.register_profile("steady", _UNHURRIED, derandomize=True)
settings.register_profile("search", _UNHURRIED, max_examples=3_000, print_blob=True)
settings.load_profile("steady")
