"""What a net is given: as arrays that it can compute with, over the axes that they have."""

from collections.abc import Callable
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from memjax.errors import UserError
from memjax.memory import checks


class Net(nn.Module, kw_only=True):
    """A module with two types, by keyword, that mean what they mean in Flax's own.

    Attributes:
      dtype: of the computation and of what comes out; None: the widest of inputs and parameters.
      param_dtype: of the parameters.
    """

    dtype: Any = None
    param_dtype: Any = jnp.float32

    @property
    def _types(self) -> dict[str, Any]:
        """For its parts."""
        return {"dtype": self.dtype, "param_dtype": self.param_dtype}


def as_floats(name: str, value: Any) -> chex.Array:
    """`value` of any shape `[...]` in float32, or wider if it is.

    Takes low precision, NumPy arrays and nested lists.

    Raises:
      UserError: no real numbers, or an array of integers: most often pixels not divided by 255.
    """
    array = as_reals(name, value)
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def as_reals(name: str, value: Any, dtype: Any = None) -> chex.Array:
    """As `as_floats`, but in `dtype`; None keeps the input's own type."""
    array = _checked(checks.real, name, value)
    return array if dtype is None else array.astype(dtype)


def as_booleans(name: str, value: Any, shape: tuple[int, ...]) -> chex.Array | None:
    """A mask or a reset of shape `[...]`; None stays None.

    Raises:
      UserError: what is not bool, or of another shape.
    """
    return _checked(checks.booleans, name, value, shape)


def check_memory(memory: Any, wanted: Any, num_axes: int) -> None:
    """Refuses another state than one like `wanted`, the shapes and types of one of float32.

    Its first `num_axes` axes, of batch and heads, must be the same, and sizes of vectors; what
    may be a diagonal may be a matrix.

    Raises:
      UserError: in one line.
    """
    structures = [jax.tree.structure(tree) for tree in (memory, wanted)]
    if structures[0] != structures[1]:  # type: ignore[operator]
        raise UserError(f"memory is a {type(memory).__name__}; it must be of this module")
    leaves = jax.tree_util.tree_leaves_with_path(memory)
    for (path, leaf), like in zip(leaves, jax.tree.leaves(wanted), strict=True):
        name, fits = f"memory{jax.tree_util.keystr(path)}", True
        if jnp.issubdtype(like.dtype, jnp.floating):
            if not jnp.issubdtype(leaf.dtype, jnp.floating) or jnp.finfo(leaf.dtype).bits < 32:
                raise UserError(f"{name} is {leaf.dtype}; it must be float32 or wider")
            fits = leaf.shape[-1:] == like.shape[-1:]
        if not fits or leaf.shape[:num_axes] != like.shape[:num_axes]:
            raise UserError(f"{name} has shape {list(leaf.shape)}; it must be {list(like.shape)}")


def over_axes(function: Callable, count: int) -> Callable:
    """`jax.vmap` of a function, so many times: over that many leading axes of its arguments."""
    for _ in range(count):
        function = jax.vmap(function)
    return function


def _checked(check: Callable, *given: Any) -> Any:
    """What a check of the memories gives; what it refuses is this floor's user's mistake too."""
    try:
        return check(*given)
    except ValueError as error:
        raise UserError(str(error)) from error
