"""What `causal` takes of its user, checked."""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from memjax.memory import checks
from memjax.memory._causal_steps import Held, Steps


def take_steps(
    held: Held, arrays: dict[str, Any], noise_var: Any, log_decay: Any, mask: Any, reset: Any
) -> Steps:
    """The steps in one wide type; refuses what does not fit.

    Masked ones do nothing: their weights are 0, and they decay nothing.
    """
    given = arrays | {"noise_var": noise_var}
    given |= {} if log_decay is None else {"log_decay": log_decay}
    numbers = [name for name in given if name != "codes"]
    (weights, codes, reads, noise_vars, *decay), _ = checks.reals(integers=numbers, **given)
    wide = jnp.promote_types(weights.dtype, held.mean.dtype)
    checks.episode(held.mean, weights, codes, noise_vars)
    checks.shape("read_weights", reads, weights.shape, "[T, N]")
    length = len(codes)
    steps = Steps(weights, codes, reads, jnp.broadcast_to(noise_vars, (length,)), None, None)
    if log_decay is not None:
        checks.shape("log_decay", decay[0], (length,), "[T]")
        steps = steps._replace(log_decay=decay[0])
    steps = jax.tree.map(lambda x: x.astype(wide), steps)
    if mask is not None:
        keep = _booleans("mask", mask, length)
        steps = jax.tree.map(
            lambda x: jnp.where(keep.reshape(-1, *[1] * (x.ndim - 1)), x, 0), steps
        )
    _refuse("noise_var", steps.noise_vars, lambda x: x < 0, "not be negative")
    if log_decay is not None:
        _refuse("log_decay", steps.log_decay, lambda x: x > 0, "be at most 0")
    return steps._replace(reset=None if reset is None else _booleans("reset", reset, length))


def _booleans(name: str, value: Any, length: int) -> jax.Array:
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} is a {type(value).__name__}; it must be bool [T]") from error
    if array.dtype != bool:
        raise ValueError(f"{name} is {array.dtype}; it must be bool")
    checks.shape(name, array, (length,), "[T]")
    return array


def _refuse(name: str, value: chex.Array, is_wrong: Callable, wanted: str) -> None:
    """Refuses numbers that are wrong, if they are known while tracing."""
    if not isinstance(value, jax.core.Tracer):
        wrong = np.asarray(value)[is_wrong(np.asarray(value))]
        if wrong.size:
            raise ValueError(f"{name} has {wrong[0]}; it must {wanted}")
