"""The host whose models answer what a test wants."""

from __future__ import annotations

from tests.unit.evaluate.conftest import chat_host

__all__ = ["chat_host"]
