"""memjax: generative models with an external memory, in JAX and Flax."""

from memjax import estimators, memory

__all__ = ["estimators", "memory"]
__version__ = "0.1.0"
