"""A Gaussian memory along a sequence, written and read at each step.

It is the Kanerva Machine's memory (Wu et al. 2018), read after each write: ridge regression of the
codes on the weights, done anew at each step. MesaNet (von Oswald et al. 2025) reads the same. The
delta rule (Yang et al. 2024) and linear attention (Katharopoulos et al. 2020) are limits of it: a
write into a memory whose covariance is forgotten before each step, and one of much noise.
"""

from typing import Any

import chex
import jax
import jax.numpy as jnp

from memjax.memory import (
    _causal_chunk,
    _causal_inputs,
    _causal_recurrent,
    _causal_shards,
    _density,
    checks,
    streaming,
)
from memjax.memory._causal_steps import Held, Prior
from memjax.memory._linalg import full_precision, symmetrize
from memjax.memory.kanerva import KanervaState
from memjax.memory.states import state

METHODS = ("auto", "recurrent", "chunk")


@state
class CausalState:
    """A memory, and what its prior was: decays forget in favour of the prior.

    The memory is MN(prior_mean + F mean, F root root' F', I), for the prior's root F. For the sake
    of rounding it says more than it has to: root root' = (I + precision)^-1.

    Attributes:
      prior_mean: `[N, C]`.
      prior_root: F, `[N, N]`, or `[N]` where it is diagonal; F F' is the prior's row covariance.
      mean: `[N, C]`.
      root: `[N, N]`.
      precision: F' W' D^-1 W F, `[N, N]`, of what was written, as far as it has not decayed.
    """

    prior_mean: chex.Array
    prior_root: chex.Array
    mean: chex.Array
    root: chex.Array
    precision: chex.Array


@full_precision
def begin(memory: KanervaState) -> CausalState:
    """A memory that nothing was written into yet: the first state of a decoder's cache.

    Args:
      memory: with a row_cov `[N, N]`; or `[N]`, which is a diagonal one, and nothing of what is
        written into it is dropped.

    Raises:
      ValueError: shapes that do not fit.
    """
    fields = checks.fields("memory", memory, KanervaState)
    (mean, row_cov), _ = checks.reals(**fields)
    checks.num_axes("memory.mean", mean, "[N, C]")
    if row_cov.ndim == 1:
        checks.shape("memory.row_cov", row_cov, (len(mean),), "[N] or [N, N]")
        positive = row_cov > 0
        root = jnp.where(positive, jnp.sqrt(jnp.where(positive, row_cov, 1.0)), 0.0)
    else:
        checks.shape("memory.row_cov", row_cov, (len(mean), len(mean)), "[N] or [N, N]")
        root = _density.semidefinite_root(row_cov)
    identity = jnp.eye(len(mean), dtype=mean.dtype)
    return CausalState(mean, root, jnp.zeros_like(mean), identity, jnp.zeros_like(identity))


@full_precision
def posterior(memory: CausalState) -> KanervaState:
    """What the memory holds, with a row_cov `[N, N]`, as `kanerva` reads and samples it."""
    prior, held = _take_memory(memory)
    root = _rooted(prior.root, held.root)
    return KanervaState(prior.mean + _rooted(prior.root, held.mean), symmetrize(root @ root.T))


@full_precision
def attend(
    memory: CausalState | KanervaState,
    write_weights: chex.Array,
    codes: chex.Array,
    read_weights: chex.Array,
    noise_var: chex.Numeric,
    *,
    log_decay: chex.Array | None = None,
    mask: chex.Array | None = None,
    reset: chex.Array | None = None,
    inclusive: bool = True,
    method: str = "auto",
    chunk_size: int = 32,
    num_iterations: int = 32,
    axis_name: str | None = None,
    return_residual: bool = False,
) -> tuple[Any, ...]:
    """Writes and reads at each step: row t is what `kanerva.read` gives after writes up to t.

        means[t] = q (P + S)^-1 (P R + B),  vars[t] = q (P + S)^-1 q',  q = read_weights[t]
        S = exp(log_decay[t]) S + w' w / noise_var[t],   B = exp(log_decay[t]) B + w' codes[t] / ...

    for a prior MN(R, P^-1, I), w = write_weights[t]. What was written decays, the prior does not.
    A step is a reset, a decay, a write, a read; if not `inclusive`, the read is before the write.

        recurrent   exact: blocks of 16 steps, one after the other, each step of O(N (N + C)). Where
                    less than 1/32 is left after a block, in any memory under `vmap`, its steps are
                    one by one and of O(N^3)
        chunk       T / chunk_size dependent steps of O(N^3), and `num_iterations` of conjugate
                    gradients, for all steps at once. Without decays no more are needed than a chunk
                    has steps, if rounding allows; the less noise, the more
        auto        recurrent on CPUs without decays, and for short sequences; else chunk, as strong
                    decays make recurrent slow

    How exact, in float32: with v the variance that the prior gives to a code, recurrent is within
    1e-5 of the largest mean and of v for noise of v, and within 1e-4 for noise of 0.01 v, over
    32,768 steps of weights that are all alike; within 1e-5 where weights differ, for noise of
    1e-4 v. Noise of 0 is the least that can be told from it, as in `kanerva.write`. Chunk is within
    1e-4 where its residual is below 1e-4, for noise of v / 10 and more.

    Args:
      memory: where the sequence begins; with a `KanervaState`, that is the prior.
      write_weights: `[T, N]`.
      codes: `[T, C]`.
      read_weights: `[T, N]`.
      noise_var: scalar or `[T]`, at least 0; inf for a step that is only read.
      log_decay: `[T]`, at most 0.
      mask: bool `[T]`; False for a step that does nothing, whatever stands in it. It reads 0.
      reset: bool `[T]`; True where the sequence begins again from `memory`, masked or not.
      inclusive: whether a step reads what it has written itself.
      method: one of `METHODS`.
      chunk_size: of "chunk"; a shorter last chunk is filled up.
      num_iterations: of "chunk".
      axis_name: a mesh axis under `shard_map`, over which a long sequence is divided, in order.
        Each device gives and gets its own T steps, and all get the same memory. What is sent is
        N (N + C) numbers a device. What came before is known to eps T v / noise_var only.
      return_residual: whether to return a fourth thing: how far "chunk" is from exact, a scalar. It
        is the largest |A u - b| / |b|, for the system A u = b that a step solves; 0 if "recurrent".

    Returns:
      means `[T, C]` and vars `[T]`, in the type of weights and codes; and the memory that goes on
      where the sequence ended, in float32 or wider.

    Raises:
      ValueError: shapes that do not fit, codes that are not real numbers, negative noise or
        positive decay that is known when tracing, masks that are not bool, an unknown method.
    """
    checks.one_of("method", method, METHODS)
    checks.at_least("chunk_size", chunk_size)
    checks.at_least("num_iterations", num_iterations)
    prior, held = _take_memory(memory)
    arrays = {"write_weights": write_weights, "codes": codes, "read_weights": read_weights}
    dtype = checks.reals(integers=("write_weights", "read_weights"), **arrays)[1]
    steps = _causal_inputs.take_steps(held, arrays, noise_var, log_decay, mask, reset)
    prior, held = jax.tree.map(lambda x: x.astype(steps.codes.dtype), (prior, held))
    # Under `shard_map`, what is carried from step to step varies over one set of axes.
    own_prior, held, steps = streaming.align((prior, held, steps))
    begins = held
    if axis_name is not None:
        begins = _causal_shards.held_before(axis_name, own_prior, held, steps)
    if method == "auto":
        method = _faster(len(steps.codes), chunk_size, log_decay is not None)
    ways = (own_prior, held, begins, steps, inclusive)
    if method == "recurrent":
        means, variances, after = _causal_recurrent.attend(*ways)
        residual = jnp.zeros((), means.dtype)
    else:
        means, variances, after, residual = _causal_chunk.attend(*ways, chunk_size, num_iterations)
    if axis_name is not None:
        after, residual = _causal_shards.last(axis_name, after), jax.lax.pmax(residual, axis_name)
    memory = CausalState(prior.mean, prior.root, after.mean, after.root, after.precision)
    found = means.astype(dtype), variances.astype(dtype), memory
    return (*found, residual) if return_residual else found


def _faster(length: int, chunk_size: int, decays: bool) -> str:
    """By `benchmarks.causal`."""
    if length <= 2 * chunk_size or (jax.default_backend() == "cpu" and not decays):
        return "recurrent"
    return "chunk"


def _rooted(root: chex.Array, matrix: chex.Array) -> chex.Array:
    """F matrix, for a root F `[N]` or `[N, N]`."""
    return root[:, None] * matrix if root.ndim == 1 else root @ matrix


def _take_memory(memory: CausalState | KanervaState) -> tuple[Prior, Held]:
    """Refuses what does not fit; arrays in one wide type."""
    if isinstance(memory, KanervaState):
        memory = begin(memory)
    if not isinstance(memory, CausalState):
        kinds = f"{CausalState.__name__} or a {KanervaState.__name__}"
        raise ValueError(f"memory is a {type(memory).__name__}; it must be a {kinds}")
    fields = checks.fields("memory", memory, CausalState)
    (prior_mean, prior_root, mean, root, precision), _ = checks.reals(**fields)
    checks.num_axes("memory.prior_mean", prior_mean, "[N, C]")
    square = (len(prior_mean), len(prior_mean))
    if prior_root.ndim != 1 or len(prior_root) != len(prior_mean):
        checks.shape("memory.prior_root", prior_root, square, "[N] or [N, N]")
    checks.shape("memory.mean", mean, prior_mean.shape, "[N, C]")
    checks.shape("memory.root", root, square, "[N, N]")
    checks.shape("memory.precision", precision, square, "[N, N]")
    return Prior(prior_mean, prior_root), Held(mean, root, symmetrize(precision))
