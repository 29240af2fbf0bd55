"""Steps that are none, and steps that begin again: `mask` and `reset`, for memories in steps.

A condition's axes are the first ones of each leaf: one step has a scalar, a batch `[B]`. None is a
condition that was not given, and costs nothing.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import chex
import jax
import jax.numpy as jnp

from memjax.memory import checks

_Tree = TypeVar("_Tree")


def take(
    mask: Any, reset: Any = None, shape: tuple[int, ...] = ()
) -> tuple[chex.Array | None, chex.Array | None]:
    """What a user gave as conditions of steps of that shape.

    Raises:
      ValueError: what is not bool, or of another shape.
    """
    return checks.booleans("mask", mask, shape), checks.booleans("reset", reset, shape)


def begin(reset: chex.Array | None, empty: Callable[[_Tree], _Tree], memory: _Tree) -> _Tree:
    """The memory, or an `empty` one like it where a sequence begins again, masked or not."""
    return memory if reset is None else _where(reset, empty(memory), memory)


def hide(mask: chex.Array | None, given: _Tree) -> _Tree:
    """Zeros in place of what masked steps are given.

    NaN that stands there would else reach gradients: 0 times NaN is NaN.
    """
    return given if mask is None else _where(mask, given, zeros_like(given))


def keep(mask: chex.Array | None, after: _Tree, before: _Tree) -> _Tree:
    """What was there `before`, where a step is masked, else what is there `after`."""
    return after if mask is None else _where(mask, after, before)


def zeros_like(tree: _Tree) -> _Tree:
    """Zeros in the shapes and types of a tree."""
    return jax.tree.map(jnp.zeros_like, tree)


def _where(condition: chex.Array, yes: Any, no: Any) -> Any:
    def choose(yes: chex.Array, no: chex.Array) -> chex.Array:
        axes = range(condition.ndim, yes.ndim)
        return jnp.where(jnp.expand_dims(condition, axes), yes, no)

    return jax.tree.map(choose, yes, no)
