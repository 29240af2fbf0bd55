"""Pure functions over explicit memory states."""

from memjax.memory import (
    addressing,
    attention,
    causal,
    dnc,
    kanerva,
    low_rank,
    lrua,
    product_keys,
    sdm,
)

__all__ = [
    "addressing",
    "attention",
    "causal",
    "dnc",
    "kanerva",
    "low_rank",
    "lrua",
    "product_keys",
    "sdm",
]
