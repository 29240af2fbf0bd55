"""Harnesses that break runs on purpose; each is a command: python -m tests.robustness.NAME."""
