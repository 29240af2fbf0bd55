"""What `causal` takes of its user, checked."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from memjax.memory import checks, masking
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
    mask, reset = masking.take(mask, reset, (length,))

    def take(array):
        return masking.hide(mask, array.astype(wide))

    if log_decay is not None:
        checks.shape("log_decay", decay[0], (length,), "[T]")
    _refuse("noise_var", noise_var, mask, lambda x: x < 0, "not be negative")
    if log_decay is not None:
        _refuse("log_decay", log_decay, mask, lambda x: x > 0, "be at most 0")
    return Steps(
        weights=take(weights),
        codes=take(codes),
        reads=take(reads),
        noise_vars=take(jnp.broadcast_to(noise_vars, (length,))),
        active=mask,
        log_decay=None if log_decay is None else take(decay[0]),
        reset=reset,
    )


def _refuse(name: str, value: Any, mask: Any, is_wrong: Callable, wanted: str) -> None:
    """Refuses numbers that are wrong and not masked, if they are known while tracing."""
    if isinstance(value, jax.core.Tracer) or isinstance(mask, jax.core.Tracer):
        return
    wrong = is_wrong(np.asarray(value)) & (True if mask is None else np.asarray(mask))
    if np.any(wrong):
        worst = np.broadcast_to(value, wrong.shape)[wrong][0]
        raise ValueError(f"{name} has {worst}; it must {wanted}")
