"""Torch must find OpenMP's wait policy when it is first imported, so the engine's package comes before it."""

import local_backend.engine  # noqa: F401 - sets the policy
