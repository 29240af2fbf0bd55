"""Pure functions over explicit memory states."""

from memjax.memory import addressing

__all__ = ["addressing"]
