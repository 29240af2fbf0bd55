"""What a program runs on."""

import jax

from memjax.errors import UserError


def describe() -> str:
    """How many devices all processes have, and of which kind: "8 x NVIDIA H100".

    Raises:
      UserError: JAX_PLATFORMS names a device that is not there.
    """
    try:
        return f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    except RuntimeError as error:
        raise UserError(str(error)) from error
