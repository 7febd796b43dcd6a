"""Fixtures that swap backends under a test suite."""
