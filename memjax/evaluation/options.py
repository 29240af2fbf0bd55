"""Options of tasks: one number or several, and defaults that fit the data."""

from collections.abc import Sequence
from typing import Any

import numpy as np


class UpTo(int):
    """A default, cut to what the data hold; a caller's own number is refused if it is more."""


def up_to(*values: int) -> Any:
    """The default of an option: a number, or several."""
    return UpTo(values[0]) if len(values) == 1 else tuple(map(UpTo, values))


def cut(value: int, most: int) -> int:
    """An option's value; a default is `most` at most."""
    return min(value, most) if isinstance(value, UpTo) else value


def as_sequence(values: int | Sequence[int], most: int | None = None) -> list[int]:
    """An option's one number, or several, each once; defaults are `most` at most."""
    several = np.atleast_1d(np.asarray(values, object)).tolist()
    return list(dict.fromkeys(several if most is None else (cut(v, most) for v in several)))
