"""Tests, and what they share."""

import jax

if not hasattr(jax, "enable_x64"):  # before JAX 0.8
    import jax.experimental

    jax.enable_x64 = jax.experimental.enable_x64
