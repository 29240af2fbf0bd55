"""memjax: generative models with an external memory, in JAX and Flax."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memjax import estimators, memory

__all__ = ["estimators", "memory"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Imports a part of memjax, and JAX with it, when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{name}")
