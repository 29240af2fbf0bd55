"""KL terms that rise in the first steps of training, so that latents come into use.

Source: Sønderby et al., Ladder Variational Autoencoders, 2016.
"""

import chex
import flax.linen as nn
import jax.numpy as jnp

from memjax.errors import UserError


def start(model: nn.Module) -> nn.Variable | None:
    """In `setup`: the count of training steps, a variable; None where `kl_warmup_steps` is 0.

    Raises:
      UserError: the model's `kl_warmup_steps` or `kl_warmup_start` can't be.
    """
    for field in ("kl_warmup_steps", "kl_warmup_start"):
        value = getattr(model, field)
        if value < 0:
            raise UserError(f"{field} is {value}; it must not be negative")
    if not model.kl_warmup_steps:
        return None
    return model.variable("schedule", "steps", lambda: jnp.zeros((), jnp.float32))


def kl_scale(model: nn.Module, steps: nn.Variable | None, end: float, train: bool) -> chex.Numeric:
    """What the KL terms are multiplied by, from `kl_warmup_start` to `end`; counts the step."""
    if steps is None:
        return end
    count = steps.value
    if train and not model.is_initializing():
        steps.value = count + 1.0
    share = jnp.minimum(1.0, count / model.kl_warmup_steps)
    return model.kl_warmup_start + (end - model.kl_warmup_start) * share
