"""Checks at the boundaries of the memory functions: one line with the name, the value, the wish.

They look at shapes and types only, so they speak while tracing and cost nothing after it.
"""

import dataclasses
import operator
from collections.abc import Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np


def one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    """Refuses a word that is not among `allowed`."""
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(allowed)}")


def at_least(name: str, value: int, least: int = 1) -> None:
    """Refuses a number that is too small, and what is no whole number."""
    try:
        operator.index(value)
    except TypeError as error:
        raise ValueError(f"{name} is {value!r}; it must be an integer, at least {least}") from error
    if value < least:
        raise ValueError(f"{name} is {value}; it must be at least {least}")


def at_most(name: str, value: int, limit_name: str, limit: int) -> None:
    """Refuses a number that is below 1 or above a limit."""
    at_least(name, value)
    if value > limit:
        raise ValueError(f"{name} is {value}; it must be at most {limit_name} = {limit}")


def divides(name: str, value: int, whole_name: str, whole: int) -> None:
    """Refuses a count that does not cut `whole` into equal parts."""
    if not isinstance(value, int | np.integer) or value < 1 or whole % value:
        raise ValueError(f"{name} is {value!r}; it must divide {whole_name} = {whole}")


def num_axes(name: str, array: chex.Array, wanted: str) -> None:
    """Refuses an array with another number of axes than `wanted`, such as "[N, C]"."""
    if array.ndim != wanted.count(",") + 1:
        raise ValueError(f"{name} is {array.shape}; it must be {wanted}")


def shape(name: str, array: chex.Array, wanted: Sequence[int], letters: str = "") -> None:
    """Refuses an array of another shape than `wanted`."""
    if array.shape != tuple(wanted):
        letters = f"{letters} = " if letters else ""
        raise ValueError(f"{name} is {array.shape}; it must be {letters}{tuple(wanted)}")


def last_axis(name: str, array: chex.Array, letter: str, size: int) -> None:
    """Refuses an array whose last axis is not `size` long."""
    if array.shape[-1:] != (size,):
        raise ValueError(
            f"{name} is {array.shape}; it must be [..., {letter}] with {letter} = {size}"
        )


def same_shape(name: str, array: chex.Array, other_name: str, other: chex.Array) -> None:
    """Refuses two arrays of different shapes."""
    if array.shape != other.shape:
        raise ValueError(f"{name} is {array.shape}; it must be as {other_name}, {other.shape}")


def broadcast(name: str, array: chex.Array, other_name: str, other: chex.Array) -> tuple:
    """The shape of two arrays together; refuses what does not fit, or differs on the last axis."""
    if array.shape[-1:] in ((), (0,)):
        raise ValueError(f"{name} is {array.shape}; it must be [..., N] with N >= 1")
    try:
        if array.shape[-1:] == other.shape[-1:]:
            return jnp.broadcast_shapes(array.shape, other.shape)
    except ValueError:
        pass
    raise ValueError(f"{other_name} is {other.shape}; it must fit {name}, {array.shape}")


def reals(*, integers: Sequence[str] = (), **values: Any) -> tuple[list[jax.Array], Any]:
    """Arrays of real numbers, wide enough to compute with, and the type to give results in.

    Takes NumPy arrays, numbers and nested lists too. Integers are most often pixels that were not
    scaled, or wrap: they are refused, but for numbers and lists, which have no type of their own.

    Args:
      integers: names of values that may be integers, which become floating-point.
      **values: arrays by the names that the caller's user knows.

    Returns:
      The arrays in their common type, at least float32, in order; and the common type itself, in
      which Python's numbers and arrays of integers have no say.

    Raises:
      ValueError: what is no array of real numbers.
    """
    arrays = [real(name, value, name in integers) for name, value in values.items()]
    typed = [
        array
        for array, value in zip(arrays, values.values(), strict=True)
        if not isinstance(value, bool | int | float) and not _is_integer(value)
    ]
    dtype = jnp.result_type(*(typed or arrays))
    wide = jnp.promote_types(dtype, jnp.float32)
    return [array.astype(wide) for array in arrays], dtype


def _is_integer(value: Any) -> bool:
    return hasattr(value, "dtype") and jnp.issubdtype(value.dtype, jnp.integer)


def real(name: str, value: Any, integers: bool = False) -> jax.Array:
    """One of `reals`, in its own floating-point type."""
    array = _as_array(name, value, "real numbers")
    if jnp.issubdtype(array.dtype, jnp.floating):
        return array
    if jnp.issubdtype(array.dtype, jnp.integer) and (integers or not hasattr(value, "dtype")):
        return array.astype(jnp.result_type(float))
    raise ValueError(f"{name} is {array.dtype}; it must be floating-point")


def whole(name: str, value: Any) -> jax.Array:
    """An array of integers, such as addresses, at least int32: small ones wrap in sums."""
    array = _as_array(name, value, "integers")
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise ValueError(f"{name} is {array.dtype}; it must be integers")
    return array if array.dtype.itemsize >= 4 else array.astype(jnp.int32)


def booleans(name: str, value: Any, wanted: tuple[int, ...]) -> jax.Array | None:
    """An array of bool of that shape; None stays None."""
    if value is None:
        return None
    array = _as_array(name, value, "bool")
    if array.dtype != bool or array.shape != wanted:
        given = f"{array.dtype}{list(array.shape)}"
        raise ValueError(f"{name} is {given}; it must be bool{list(wanted)}")
    return array


def slots(name: str, value: Any) -> jax.Array:
    """An array `[N, ...]` of any type, with N at least 1."""
    array = _as_array(name, value, "numbers")
    if array.ndim < 1 or len(array) < 1:
        raise ValueError(f"{name} is {array.shape}; it must be [N, ...] with N >= 1")
    return array


def is_nested_list(value: Any) -> bool:
    """Whether a list is an array of numbers, rather than a pytree of arrays."""
    leaves = jax.tree.leaves(value)
    return isinstance(value, list) and all(isinstance(leaf, bool | int | float) for leaf in leaves)


def fields(name: str, state: Any, kind: type) -> dict[str, Any]:
    """What `reals` takes of a state: its fields, as "name.field"."""
    if not isinstance(state, kind):
        raise ValueError(f"{name} is a {type(state).__name__}; it must be a {kind.__name__}")
    return {
        f"{name}.{field.name}": getattr(state, field.name) for field in dataclasses.fields(kind)
    }


def _as_array(name: str, value: Any, wanted: str) -> jax.Array:
    try:
        return jnp.asarray(value)
    except (TypeError, ValueError, OverflowError) as error:
        short = " ".join(repr(value).split())
        short = short if len(short) < 60 else type(value).__name__
        raise ValueError(f"{name} is {short}; it must be an array of {wanted}") from error


def not_divided(name: str, array: jax.Array) -> None:
    """Refuses an array that devices share along its first axis, if it is known while tracing."""
    if isinstance(array, jax.core.Tracer):
        divided = any(axes is not None for axes in jax.typeof(array).sharding.spec[:1])
    else:
        divided = array.sharding.shard_shape(array.shape)[0] != len(array)
    if divided:
        raise ValueError(
            f"{name} is divided over devices; call this under shard_map, with axis_name"
        )


def draws(address_logits: chex.Array, num_samples: int) -> None:
    """Refuses what no address can be drawn from."""
    if address_logits.ndim != 1 or len(address_logits) < 1:
        raise ValueError(f"address_logits is {address_logits.shape}; it must be [N] with N >= 1")
    at_least("num_samples", num_samples)


def episode(
    mean: chex.Array, write_weights: chex.Array, codes: chex.Array, noise_var: chex.Array
) -> None:
    """Refuses shapes that can't be written into a memory of mean `[N, C]`; see `kanerva.write`."""
    num_axes("write_weights", write_weights, "[T, N]")
    last_axis("write_weights", write_weights, "N", mean.shape[0])
    num_writes = len(write_weights)
    shape("codes", codes, (num_writes, mean.shape[1]), "[T, C]")
    if noise_var.shape != ():
        shape("noise_var", noise_var, (num_writes,), "[T]")


def positive(name: str, value: chex.Numeric) -> None:
    """Refuses zero and less, if it is known while tracing."""
    if not isinstance(value, jax.core.Tracer) and not np.all(np.asarray(value) > 0):
        raise ValueError(f"{name} is {value}; it must be positive")


def not_negative(name: str, value: chex.Numeric) -> None:
    """Refuses a negative number, if it is known while tracing."""
    if not isinstance(value, jax.core.Tracer) and np.any(np.asarray(value) < 0):
        raise ValueError(f"{name} is {value}; it must not be negative")
