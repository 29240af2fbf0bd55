"""What differs between the versions of JAX that memjax runs on; all of it is here.

Each part says from which version on it can go.
"""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp

_OLDEST = (0, 7, 2)


if jax.__version_info__ < _OLDEST:
    _oldest = ".".join(map(str, _OLDEST))
    raise ImportError(f"memjax needs JAX {_oldest} or newer; this is {jax.__version__}")


def all_gather(arrays: Any, axis_name: str) -> Any:
    """From all devices of a `shard_map`, along a new first axis, the same on each."""
    if hasattr(jax.lax, "all_gather_invariant"):  # before JAX 0.8
        return jax.lax.all_gather_invariant(arrays, axis_name)
    return jax.lax.all_gather(arrays, axis_name, to="invarying")


def linear_scan(step: Callable, start: Any, linear: Any, others: Any) -> Any:
    """What `jax.lax.scan` stacks, where `step` is linear in what it carries and in `linear`.

    Before JAX 0.10 a scan could be transposed only where JAX had made it by differentiation.
    """

    def run(start: Any, linear: Any) -> Any:
        return jax.lax.scan(step, start, (linear, others))[1]

    if jax.__version_info__ >= (0, 10):
        return run(start, linear)
    return jax.jvp(run, jax.tree.map(jnp.zeros_like, (start, linear)), (start, linear))[1]


def psum(arrays: Any, axis_name: str) -> Any:
    """`jax.lax.psum`, leaf by leaf: before JAX 0.9 one of several can't be transposed in a part."""
    return jax.tree.map(lambda array: jax.lax.psum(array, axis_name), arrays)


def varying_axes(array: chex.Array) -> frozenset:
    """The axes of a `shard_map` that an array `[...]` varies over."""
    kind = jax.typeof(array)
    if hasattr(kind, "manual_axis_type"):
        return kind.manual_axis_type.varying
    return kind.vma  # before JAX 0.10


def vary_over(array: chex.Array, axes: tuple[str, ...]) -> chex.Array:
    """The same array `[...]`, which a `shard_map` then takes for one that varies over `axes`."""
    if hasattr(jax.lax, "pcast"):
        return jax.lax.pcast(array, axes, to="varying")
    return jax.lax.pvary(array, axes)  # type: ignore[attr-defined]  # before JAX 0.8
