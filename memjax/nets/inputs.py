"""What a net is given, as arrays that it can compute with."""

from typing import Any

import chex

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
