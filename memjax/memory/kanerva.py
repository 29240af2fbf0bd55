"""The Kanerva Machine's memory: a Gaussian over an N x C matrix that is written by Bayes' rule.

Everything here takes one memory and one episode; add batch axes with `jax.vmap`. Linear algebra
runs at full float32 precision on every backend; float64 where x64 is on. Source: Wu et al., The
Kanerva Machine: A Generative Distributed Memory, 2018 (KM below).
"""

from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp

from memjax.memory import addressing, checks, conditioning
from memjax.memory.conditioning import full_precision, widen
from memjax.memory.states import state

WRITE_METHODS = ("auto", *conditioning.METHODS)


@state
class KanervaState:
    """p(M) = MN(mean, row_cov, I): rows are correlated by `row_cov`, columns are independent.

    Attributes:
      mean: R, `[N, C]`.
      row_cov: U, `[N, N]`, symmetric positive definite; or `[N]`, the diagonal variant's variances.
    """

    mean: chex.Array
    row_cov: chex.Array


def prior(
    num_slots: int, code_size: int, scale: float = 1.0, diagonal: bool = False
) -> KanervaState:
    """A memory that holds nothing: MN(0, scale I, I).

    Args:
      num_slots: N.
      code_size: C.
      scale: variance of every entry.
      diagonal: whether the row covariance is `[N]`; see `write`.

    Raises:
      ValueError: a size below 1, or a scale that is not positive.
    """
    checks.at_least("num_slots", num_slots)
    checks.at_least("code_size", code_size)
    checks.positive("scale", scale)
    variances = jnp.full(num_slots, scale, jnp.result_type(float))
    return KanervaState(
        mean=jnp.zeros((num_slots, code_size), variances.dtype),
        row_cov=variances if diagonal else jnp.diag(variances),
    )


@full_precision
def write(
    memory: KanervaState,
    write_weights: chex.Array,
    codes: chex.Array,
    noise_var: chex.Numeric,
    *,
    method: str = "auto",
    axis_name: str | None = None,
) -> KanervaState:
    """The posterior of the memory given an episode of codes; KM eqs. 9-11, appendix E.

        codes[t] ~ N(write_weights[t] M, noise_var[t] I),    M ~ MN(mean, row_cov, I)

    The forms are equal in value and in gradient but for rounding:

        batch         a T x T solve; noise may be zero where the writes determine the codes
        information   an N x N solve; noise must be positive
        online        T rank-one updates in order; noise may be zero
        auto          batch or information, whichever takes fewer operations with the gradient

    The gradient of "online" is that of "auto", and its value too where it is differentiated: noise
    of zero then needs "batch".

    A `[N]` row_cov is the diagonal variant (KM figure 10). It approximates: the posterior's rows
    are correlated as soon as a write weighs two of them, and their covariance is dropped. The
    variances are the exact marginal ones; what the correlations would tell the next write is
    forgotten. "online" drops them after each write, so that later writes of the episode suffer; the
    others drop them once, after the episode.

    Args:
      memory: what the memory was; broadcasts nothing.
      write_weights: `[T, N]`.
      codes: `[T, C]`; NaN in them is not looked for (`jax_debug_nans` or `chex.chexify` do).
      noise_var: scalar or `[T]`; the sum of sigma^2 and of a code's own variance is the
        distribution-based write of KM appendix F.
      method: one of `WRITE_METHODS`.
      axis_name: a mesh axis under `shard_map`, over which a long episode is divided: each device
        gives its own T weights, codes and noise, and all get the same posterior. What is sent is
        one sum of N x (N + C) numbers, in the information form.

    Returns:
      The posterior, in float32 or wider; its row_cov is exactly symmetric.

    Raises:
      ValueError: shapes that do not fit, codes that are not real numbers, negative noise that is
        known when tracing, an unknown method; with `axis_name`, another form than information.
    """
    checks.one_of("method", method, WRITE_METHODS)
    if axis_name is not None:
        checks.one_of("method", method, ("auto", "information"))
    arguments = _check_episode(memory, write_weights, codes, noise_var)
    mean, row_cov, write_weights, codes, noise_vars = arguments
    if method == "auto":
        method = conditioning.cheapest(write_weights.shape, mean.shape)
    if row_cov.ndim == 2 or method != "online":
        full_cov = row_cov if row_cov.ndim == 2 else jnp.diag(row_cov)
        if axis_name is None:
            mean, full_cov = conditioning.condition(method, mean, full_cov, *arguments[2:])
        else:
            mean, full_cov = conditioning.condition_shared(
                axis_name, mean, full_cov, *arguments[2:]
            )
        return KanervaState(mean, full_cov if row_cov.ndim == 2 else jnp.diagonal(full_cov))

    def update(state: tuple[chex.Array, chex.Array], observation: Any) -> Any:
        (mean, variances), (weight, code, noise) = state, observation
        cross_cov = variances * weight
        gain = cross_cov / (weight @ cross_cov + noise)
        mean = mean + jnp.outer(gain, code - weight @ mean)
        return (mean, variances - gain * cross_cov), None

    state, _ = jax.lax.scan(update, (mean, row_cov), (write_weights, codes, noise_vars))
    return KanervaState(*state)


@full_precision
def write_prefix(
    memory: KanervaState, write_weights: chex.Array, codes: chex.Array, noise_var: chex.Numeric
) -> KanervaState:
    """The posterior after each of the T writes of an episode, all at once.

    Precisions add, so what the first t writes say is a prefix sum, by an associative scan of depth
    log T; then T solves side by side. Takes the memory of T covariances.

    Args:
      memory: what the memory was, with a row_cov `[N, N]` or `[N]`; see `write`.
      write_weights: `[T, N]`.
      codes: `[T, C]`.
      noise_var: scalar or `[T]`, positive.

    Returns:
      A state with leading axis T.

    Raises:
      ValueError: as `write`.
    """
    arguments = _check_episode(memory, write_weights, codes, noise_var)
    mean, row_cov, write_weights, codes, noise_vars = arguments
    scaled = write_weights / noise_vars[:, None]
    precision_gains = scaled[:, :, None] * write_weights[:, None, :]
    information_gains = scaled[:, :, None] * codes[:, None, :]
    sums = jax.lax.associative_scan(
        partial(jax.tree.map, jnp.add), (precision_gains, information_gains)
    )
    factor = jnp.diag(jnp.sqrt(row_cov)) if row_cov.ndim == 1 else conditioning.cholesky(row_cov)

    def posterior(precision_gain: chex.Array, information_gain: chex.Array) -> KanervaState:
        row_cov_after = conditioning.add_precision(factor, precision_gain)
        mean_after = mean + row_cov_after @ (information_gain - precision_gain @ mean)
        if row_cov.ndim == 1:
            row_cov_after = jnp.diagonal(row_cov_after)
        return KanervaState(mean_after, row_cov_after)

    return jax.vmap(posterior)(*sums)


@full_precision
def read(
    memory: KanervaState, read_weights: chex.Array, noise_var: chex.Numeric = 0.0
) -> tuple[chex.Array, chex.Array]:
    """The distribution of what is read: N(w R, (w U w' + noise_var) I); KM eqs. 6 and 19.

    Args:
      memory: N slots of size C.
      read_weights: w, `[..., N]`.
      noise_var: scalar or `[...]`; with 0, the default, the variance is the memory's own.

    Returns:
      mean `[..., C]` and var `[...]`.

    Raises:
      ValueError: weights that do not fit the memory.
    """
    _check_state(memory)
    checks.last_axis("read_weights", read_weights, "N", len(memory.mean))
    mean, row_cov = widen(memory.mean, memory.row_cov)
    (read_weights,) = widen(read_weights)
    if row_cov.ndim == 1:
        var = jnp.square(read_weights) @ row_cov
    else:
        var = jnp.sum((read_weights @ row_cov) * read_weights, axis=-1)
    var = var + jnp.asarray(noise_var, var.dtype)
    return read_weights @ mean, var


@full_precision
def sample(rng_key: chex.PRNGKey, memory: KanervaState) -> chex.Array:
    """Draws a memory matrix M `[N, C]` from MN(mean, row_cov, I)."""
    _check_state(memory)
    mean, row_cov = widen(memory.mean, memory.row_cov)
    noise = jax.random.normal(rng_key, mean.shape, mean.dtype)
    if row_cov.ndim == 1:
        return mean + jnp.sqrt(row_cov)[:, None] * noise
    return mean + conditioning.cholesky(row_cov) @ noise


@full_precision
def kl_divergence(memory_posterior: KanervaState, memory_prior: KanervaState) -> chex.Array:
    """KL(q(M) || p(M)) in nats, over all N x C entries: a scalar.

        1/2 [C tr(U_p^-1 U_q) + tr((R_q - R_p)' U_p^-1 (R_q - R_p)) - N C + C log |U_p| / |U_q|]

    Raises:
      ValueError: memories of different shapes, or one of the two diagonal.
    """
    _check_state(memory_posterior)
    _check_state(memory_prior)
    for field in ("mean", "row_cov"):
        given, wanted = getattr(memory_posterior, field), getattr(memory_prior, field)
        checks.same_shape(f"memory_posterior.{field}", given, "memory_prior's", wanted)
    mean_q, cov_q, mean_p, cov_p = widen(
        memory_posterior.mean, memory_posterior.row_cov, memory_prior.mean, memory_prior.row_cov
    )
    num_slots, code_size = mean_q.shape
    difference = mean_q - mean_p
    if cov_q.ndim == 1:
        ratio = cov_q / cov_p
        slots = jnp.sum(ratio - 1.0 - jnp.log(ratio))
        return 0.5 * (code_size * slots + jnp.sum(jnp.square(difference) / cov_p[:, None]))
    factor_q, factor_p = conditioning.cholesky(jnp.stack([cov_q, cov_p]))
    whitened = jax.scipy.linalg.solve_triangular(
        factor_p, jnp.concatenate([factor_q, difference], axis=1), lower=True
    )
    trace = jnp.sum(jnp.square(whitened[:, :num_slots]))
    log_det_ratio = 2.0 * jnp.sum(jnp.log(jnp.diagonal(factor_p) / jnp.diagonal(factor_q)))
    slots = trace - num_slots + log_det_ratio
    return 0.5 * (code_size * slots + jnp.sum(jnp.square(whitened[:, num_slots:])))


@full_precision
def address_weights(lookup_key: chex.Array, address_matrix: chex.Array) -> chex.Array:
    """The weights of a key, w = b A' with the rows of A scaled to unit norm; KM eq. 5.

    Args:
      lookup_key: b, `[..., S]`.
      address_matrix: A, `[N, S]`; a row of zeros gives a weight of 0 and a finite gradient.

    Returns:
      `[..., N]`.

    Raises:
      ValueError: shapes that do not fit.
    """
    checks.num_axes("address_matrix", address_matrix, "[N, S]")
    checks.last_axis("lookup_key", lookup_key, "S", address_matrix.shape[1])
    return addressing.similarity(lookup_key, address_matrix, "key_normalized")


@full_precision
def least_squares_weights(
    memory: KanervaState,
    codes: chex.Array,
    noise_var: chex.Numeric,
    prior_var: chex.Numeric = 1.0,
) -> chex.Array:
    """The weights that best explain codes: the mode of p(w|z), w ~ N(0, prior_var I).

    The ridge solution (R R' + noise_var / prior_var I)^-1 R z of the Dynamic Kanerva Machine (Wu et
    al. 2018), which needs no learned key; by the smaller of an N x N and a C x C solve.

    Args:
      memory: only its mean R is used.
      codes: z, `[..., C]`.
      noise_var: scalar, positive.
      prior_var: scalar, positive.

    Returns:
      `[..., N]`.

    Raises:
      ValueError: codes that do not fit the memory.
    """
    _check_state(memory)
    checks.last_axis("codes", codes, "C", memory.mean.shape[1])
    checks.floating("codes", codes)
    mean, codes = widen(memory.mean, codes)
    num_slots, code_size = mean.shape
    ridge = jnp.asarray(noise_var, mean.dtype) / prior_var
    if num_slots <= code_size:
        gram, projected = mean @ mean.T, codes @ mean.T
    else:
        gram, projected = mean.T @ mean, codes
    factor = conditioning.cholesky(gram + ridge * jnp.eye(len(gram), dtype=gram.dtype))
    flat = projected.reshape(-1, len(gram))
    solved = jax.scipy.linalg.cho_solve((factor, True), flat.T).T
    weights = solved if num_slots <= code_size else solved @ mean.T
    return weights.reshape(*codes.shape[:-1], num_slots)


def _check_episode(memory, write_weights, codes, noise_var) -> tuple[chex.Array, ...]:
    """Refuses what does not fit; all arrays in one wide type, noise `[T]`."""
    _check_state(memory)
    checks.episode(memory.mean, write_weights, codes, noise_var)
    arrays = widen(memory.mean, memory.row_cov, write_weights, codes)
    noise_vars = jnp.broadcast_to(jnp.asarray(noise_var, arrays[0].dtype), (len(codes),))
    return *arrays, noise_vars


def _check_state(memory: KanervaState) -> None:
    checks.num_axes("memory.mean", memory.mean, "[N, C]")
    num_slots = len(memory.mean)
    if memory.row_cov.shape != (num_slots,):
        checks.shape("memory.row_cov", memory.row_cov, (num_slots, num_slots), "[N] or [N, N]")
