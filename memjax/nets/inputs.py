"""What a net is given: as arrays that it can compute with, over the axes that they have."""

from collections.abc import Callable
from typing import Any

import chex
import jax

from memjax.errors import UserError
from memjax.memory import checks


def as_floats(name: str, value: Any) -> chex.Array:
    """`value` of any shape `[...]` in float32, or wider if it is: what nets compute in.

    Takes low precision, NumPy arrays and nested lists.

    Raises:
      UserError: no real numbers, or an array of integers: most often pixels not divided by 255.
    """
    try:
        (array,), _ = checks.reals(**{name: value})
    except ValueError as error:
        raise UserError(str(error)) from error
    return array


def over_axes(function: Callable, count: int) -> Callable:
    """`jax.vmap` of a function, so many times: over that many leading axes of its arguments."""
    for _ in range(count):
        function = jax.vmap(function)
    return function
