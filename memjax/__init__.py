"""memjax: generative models with an external memory, in JAX and Flax."""

# `compat` first: it refuses a JAX that is too old.
from memjax import compat, estimators, memory  # noqa: F401

__all__ = ["estimators", "memory"]
__version__ = "0.1.0"
