"""Convolutions by oneDNN where it is installed: `pip install 'memjax[onednn]'`; on a CPU.

Images x, a kernel w and outputs y meet in a form that is linear in each, <conv(x, w), y>. A
convolution and its two gradients are the form's derivatives in y, x and w, and so are the gradients
of those: one primitive of JAX stands for all three. XLA calls it through a function that numba
compiles, so that it waits neither for a compiler nor for the interpreter's lock.
"""

import functools
import os
from collections.abc import Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import core
from jax.interpreters import ad, batching, mlir

_TARGET = "memjax_onednn_convolution"
_ROLES = "xwy"
NUMBERS = ("NHWC", "HWIO", "NHWC")  # the layouts of x, w and y, as `lax` names them


def takes(*arrays: chex.Array) -> bool:
    """Whether oneDNN is there and can have them: float32, on the only device, a CPU."""
    if os.environ.get("MEMJAX_ONEDNN") == "0" or any(x.dtype != jnp.float32 for x in arrays):
        return False
    is_only_device = jax.default_backend() == "cpu" and jax.device_count() == 1
    return is_only_device and _library() is not None


@functools.cache
def _library() -> Any:
    """Our `_onednn_library`; None where it or oneDNN can't be had."""
    try:
        from memjax.nets import _onednn_library
    except (ImportError, OSError):
        return None
    handler = jax.ffi.pycapsule(_onednn_library.handle.ctypes)
    jax.ffi.register_ffi_target(_TARGET, handler, platform="cpu")
    return _onednn_library


def convolve(
    inputs: chex.Array, kernel: chex.Array, strides: Sequence[int], padding: Any
) -> chex.Array:
    """`lax.conv_general_dilated` of arrays that oneDNN `takes`.

    Args:
      inputs: `[B, H, W, C]`.
      kernel: `[h, w, C, F]`.
      strides: of the two axes.
      padding: as in `lax`.

    Returns:
      `[B, H', W', F]`.
    """
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(inputs.shape[1:3], kernel.shape[:2], strides, padding)
    window = (*strides, *padding[0], *padding[1])
    by_lax = functools.partial(_by_lax, role="y", shape=None, window=window)
    shape = jax.eval_shape(by_lax, inputs, kernel).shape
    return _convolve_p.bind(inputs, kernel, role="y", shape=shape, window=window)


# The primitive: of x, w and y it is given two, in this order, and gives the third, of `shape`.
# `window` is the strides and the padding before and after, axis by axis.


@functools.cache
def _compiled(**params):
    return jax.jit(functools.partial(_convolve_p.bind, **params))


def _alone(*operands, **params):
    """Outside `jit`, and where JAX is told not to compile: there it would come back to here."""
    with jax.disable_jit(False):
        return _compiled(**params)(*operands)


_convolve_p = core.Primitive("memjax_convolve")
_convolve_p.def_abstract_eval(lambda a, _, *, shape, **__: a.update(shape=shape))
_convolve_p.def_impl(_alone)


def _by_lax(a, b, *, role, shape, window):
    convolve = functools.partial(
        lax.conv_general_dilated,
        window_strides=window[:2],
        padding=(window[2:4], window[4:]),
        dimension_numbers=NUMBERS,
    )
    if role == "y":
        return convolve(a, b)
    of_one = (lambda x: convolve(x, a)) if role == "x" else (lambda w: convolve(a, w))
    return jax.linear_transpose(of_one, jax.ShapeDtypeStruct(shape, a.dtype))(b)[0]


def _transposed(place, cotangent, *operands, role, shape, window):
    del shape
    roles = _ROLES.replace(role, "")
    known = {role: cotangent, roles[1 - place]: operands[1 - place]}
    given, shape = [known[r] for r in _ROLES if r in known], operands[place].aval.shape
    return _convolve_p.bind(*given, role=roles[place], shape=shape, window=window)


ad.defbilinear(_convolve_p, *(functools.partial(_transposed, place) for place in (0, 1)))


def _batched(operands, axes, *, role, shape, window):
    """Images that share a kernel are one batch; for a kernel each there is `lax`."""
    kernel = _ROLES.replace(role, "").find("w")
    if kernel < 0 or axes[kernel] is not None:
        rule = functools.partial(_by_lax, role=role, shape=shape, window=window)
        return jax.vmap(rule, axes)(*operands), 0
    images = jnp.moveaxis(operands[1 - kernel], axes[1 - kernel], 0)
    operands = [operands[kernel], images.reshape(-1, *images.shape[2:])]
    shape = (len(images), *shape)
    params = {"role": role, "shape": (shape[0] * shape[1], *shape[2:]), "window": window}
    return _convolve_p.bind(*operands[:: 1 if kernel == 0 else -1], **params).reshape(shape), 0


batching.primitive_batchers[_convolve_p] = _batched
_lower_lax_s = mlir.lower_fun(_by_lax, multiple_results=False)


def _lower(ctx, *operands, role, shape, window):
    by_lax = functools.partial(_lower_lax_s, role=role, shape=shape, window=window)
    # What is exported may run where there is no oneDNN.
    is_exported = ctx.module_context.lowering_parameters.for_export
    if is_exported or not all(aval.size for aval in (*ctx.avals_in, *ctx.avals_out)):
        return by_lax(ctx, *operands)
    place, shapes = _ROLES.index(role), [aval.shape for aval in ctx.avals_in]
    shapes.insert(place, shape)
    try:
        plan = _library().plan(place, *shapes, window)
    except RuntimeError:
        return by_lax(ctx, *operands)
    return jax.ffi.ffi_lowering(_TARGET)(ctx, *operands, plan=np.int64(plan))


mlir.register_lowering(_convolve_p, _lower_lax_s)
mlir.register_lowering(_convolve_p, _lower, platform="cpu")
