"""The Kanerva Machine's memory: a Gaussian over an N x C matrix that is written by Bayes' rule.

Everything here takes one memory and one episode; add batch axes with `jax.vmap`. Linear algebra
runs at full float32 precision on every backend; float64 where x64 is on. Source: Wu et al., The
Kanerva Machine: A Generative Distributed Memory, 2018 (KM below).
"""

from typing import Any

import chex
import jax
import jax.numpy as jnp

from memjax.memory import _density, _sequential_form, addressing, checks, conditioning
from memjax.memory._linalg import bounded_noise, full_precision
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

        batch         a T x T solve
        information   an N x N solve
        online        T rank-one updates in order; under differentiation it uses the "auto" form
        auto          batch or information, whichever takes fewer operations with the gradient

    Accuracy: let v be the variance that the memory gives to a code. The error of the covariance is
    at most 1e-4 of the prior's largest variance, for any noise and any repetition of weights. The
    error of the mean is at most 1e-4 of its largest entry for noise_var >= 1e-6 v, unless weights
    are nearly but not quite equal, or codes contradict each other by many times the noise. Then it
    is eps s (|M| + r): s^2 is the largest eigenvalue of D^-1/2 W U W' D^-1/2, about
    T v / noise_var, and r is the norm of the codes' residual under the posterior, in units of the
    noise. Rounding the weights to float32 moves the exact posterior by as much. Where s is large,
    a slower form runs.

    First derivatives are as accurate. Second derivatives are those of the plain formulas, which
    lose digits as the noise gets small: at 1e-7 v in float32 they may be NaN.

    Noise of zero is the limit of small noise: codes are then stored exactly, to eps^1.25 v
    (float32: 2e-9 v), and those that contradict each other are averaged. Noise of inf writes
    nothing.

    A `[N]` row_cov is the diagonal variant (KM figure 10). It approximates: the posterior's rows
    become correlated as soon as a write weighs two of them, and these covariances are dropped. The
    variances are the exact marginal ones; what the correlations would tell the next write is
    lost. "online" drops them after each write, which harms later writes of the episode; the other
    forms drop them once, after the episode.

    Args:
      memory: before the write; nothing is broadcast. Its row_cov may be singular.
      write_weights: `[T, N]`.
      codes: `[T, C]`; not checked for NaN (`jax_debug_nans` or `chex.chexify` do that).
      noise_var: scalar or `[T]`, at least 0; give the sum of sigma^2 and of a code's own variance
        for the distribution-based write of KM appendix F.
      method: one of `WRITE_METHODS`.
      axis_name: a mesh axis under `shard_map`, over which a long episode is divided: each device
        gives its own T weights, codes and noise, and all get the same posterior, by the information
        form. The devices add up N x (N + C) numbers; for small noise they make a second sum.

    Returns:
      The posterior, in float32 or wider; its row_cov is exactly symmetric.

    Raises:
      ValueError: shapes that do not fit, codes that are not real numbers, negative noise that is
        known when tracing, an unknown method; with `axis_name`, another form than information.
    """
    checks.one_of("method", method, WRITE_METHODS)
    if axis_name is not None:
        checks.one_of("method", method, ("auto", "information"))
    mean, row_cov, *episode = _take_episode(memory, write_weights, codes, noise_var)
    if axis_name is not None:
        method = "information"
    elif method == "auto":
        method = conditioning.cheapest(episode[0].shape, mean.shape)
    if row_cov.ndim == 2:
        return KanervaState(*conditioning.condition(method, axis_name, mean, row_cov, *episode))
    if method == "online":
        return _write_diagonal(mean, row_cov, *episode)
    full_cov = jnp.diag(row_cov)
    mean, full_cov = conditioning.condition(method, axis_name, mean, full_cov, *episode)
    return KanervaState(mean, jnp.maximum(jnp.diagonal(full_cov), 0.0))


@full_precision
def write_prefix(
    memory: KanervaState, write_weights: chex.Array, codes: chex.Array, noise_var: chex.Numeric
) -> KanervaState:
    """The posterior after each of the T writes of an episode; KM eqs. 9-11.

    By rank-one updates, one after the other; T covariances are held at once. As accurate as
    `write`: for small noise each posterior is computed from the first write on.

    Args:
      memory: before the writes, with a row_cov `[N, N]` or `[N]`; see `write`.
      write_weights: `[T, N]`.
      codes: `[T, C]`.
      noise_var: scalar or `[T]`, at least 0.

    Returns:
      A state with leading axis T.

    Raises:
      ValueError: as `write`.
    """
    mean, row_cov, *episode = _take_episode(memory, write_weights, codes, noise_var)
    if row_cov.ndim == 2:
        return KanervaState(*_sequential_form.condition_each(mean, row_cov, *episode))
    mean, full_cov = _sequential_form.condition_each(mean, jnp.diag(row_cov), *episode)
    return KanervaState(mean, jnp.maximum(jnp.diagonal(full_cov, axis1=1, axis2=2), 0.0))


@full_precision
def erase(
    memory: KanervaState, write_weights: chex.Array, codes: chex.Array, noise_var: chex.Numeric
) -> KanervaState:
    """Takes a write back: the memory from which `write` with these arguments made `memory`.

    Writes commute, so it does not matter what else was written, before or after. Exact but for
    rounding, which grows as v / noise_var: v is the variance that the memory gave to the code, and
    a write with noise of 0 leaves nothing of it to recover.

    Args:
      memory: a posterior, with a row_cov `[N, N]`.
      write_weights: `[T, N]`.
      codes: `[T, C]`.
      noise_var: scalar or `[T]`, positive.

    Returns:
      The memory without it; NaN if it can't have been written.

    Raises:
      ValueError: as `write`; noise of zero; a row_cov `[N]`, from which nothing can be taken back.
    """
    mean, row_cov, weights, codes, noise_vars = _take_episode(
        memory, write_weights, codes, noise_var
    )
    checks.positive("noise_var", noise_var)
    checks.num_axes("memory.row_cov", row_cov, "[N, N]")
    return KanervaState(*conditioning.uncondition(mean, row_cov, weights, codes, noise_vars))


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
    mean, row_cov, read_weights, noise_var = _take(
        memory,
        integers=("read_weights", "noise_var"),
        read_weights=read_weights,
        noise_var=noise_var,
    )
    checks.last_axis("read_weights", read_weights, "N", len(mean))
    if row_cov.ndim == 1:
        var = jnp.square(read_weights) @ row_cov
    else:
        var = jnp.sum((read_weights @ row_cov) * read_weights, axis=-1)
    return read_weights @ mean, jnp.maximum(var, 0.0) + noise_var


@full_precision
def sample(rng_key: chex.PRNGKey, memory: KanervaState) -> chex.Array:
    """Draws a memory matrix M `[N, C]` from MN(mean, row_cov, I); row_cov may be singular."""
    mean, row_cov = _take(memory)
    noise = jax.random.normal(rng_key, mean.shape, mean.dtype)
    if row_cov.ndim == 1:
        positive = row_cov > 0
        scale = jnp.where(positive, jnp.sqrt(jnp.where(positive, row_cov, 1.0)), 0.0)
        return mean + scale[:, None] * noise
    return mean + _density.semidefinite_root(row_cov) @ noise


@full_precision
def kl_divergence(memory_posterior: KanervaState, memory_prior: KanervaState) -> chex.Array:
    """KL(q(M) || p(M)) in nats, over all N x C entries: a scalar.

        1/2 [C tr(U_p^-1 U_q) + tr((R_q - R_p)' U_p^-1 (R_q - R_p)) - N C + C log |U_p| / |U_q|]

    inf where one of the two knows a direction exactly, to rounding, and the other does not.

    Raises:
      ValueError: memories of different shapes, or one of the two diagonal.
    """
    mean_q, cov_q = _take(memory_posterior, "memory_posterior")
    mean_p, cov_p = _take(memory_prior, "memory_prior")
    checks.same_shape("memory_posterior.mean", mean_q, "memory_prior's", mean_p)
    checks.same_shape("memory_posterior.row_cov", cov_q, "memory_prior's", cov_p)
    (mean_q, cov_q, mean_p, cov_p), _ = checks.reals(a=mean_q, b=cov_q, c=mean_p, d=cov_p)
    divergence = _density.diagonal_kl if cov_q.ndim == 1 else _density.kl_divergence
    return divergence(mean_q, cov_q, mean_p, cov_p)


@full_precision
def log_evidence(
    memory: KanervaState, write_weights: chex.Array, codes: chex.Array, noise_var: chex.Numeric
) -> chex.Array:
    """log p(codes | write_weights) in nats, the memory integrated out: a scalar.

        codes ~ MN(W R, W U W' + diag(noise_var), I)

    Maximise it to learn write weights, noise and the memory's prior. Noise below eps^1.25 v, v a
    code's variance, counts as eps^1.25 v. For small noise the value is as accurate as the
    posterior; the gradient's error grows as eps v / noise_var.

    Args:
      memory: before the codes are written.
      write_weights: W, `[T, N]`.
      codes: `[T, C]`.
      noise_var: scalar or `[T]`, at least 0, and positive if T > N: more codes than slots have no
        density without noise.

    Raises:
      ValueError: as `write`; noise of zero where T > N, if it is known when tracing.
    """
    mean, row_cov, weights, *rest = _take_episode(memory, write_weights, codes, noise_var)
    if len(weights) > len(mean):
        checks.positive("noise_var", noise_var)
    full_cov = row_cov if row_cov.ndim == 2 else jnp.diag(row_cov)
    return _density.log_evidence(mean, full_cov, weights, *rest)


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
    arrays, dtype = checks.reals(lookup_key=lookup_key, address_matrix=address_matrix)
    lookup_key, address_matrix = arrays
    checks.num_axes("address_matrix", address_matrix, "[N, S]")
    checks.last_axis("lookup_key", lookup_key, "S", address_matrix.shape[1])
    return addressing.similarity(lookup_key, address_matrix, "key_normalized").astype(dtype)


@full_precision
def least_squares_weights(
    memory: KanervaState,
    codes: chex.Array,
    noise_var: chex.Numeric,
    prior_var: chex.Numeric = 1.0,
) -> chex.Array:
    """The weights that best explain codes: the mode of p(w|z), w ~ N(0, prior_var I).

    The ridge solution (R R' + noise_var / prior_var I)^-1 R z of the Dynamic Kanerva Machine (Wu et
    al. 2018), which needs no learned key. It takes the smaller of an N x N and a C x C solve. With
    noise of zero it gives the shortest weights among those that explain the codes best.

    Args:
      memory: only its mean R is used.
      codes: z, `[..., C]`.
      noise_var: scalar, at least 0.
      prior_var: scalar, positive.

    Returns:
      `[..., N]`.

    Raises:
      ValueError: codes that do not fit the memory.
    """
    mean, _, codes, noise_var, prior_var = _take(
        memory,
        integers=("noise_var", "prior_var"),
        codes=codes,
        noise_var=noise_var,
        prior_var=prior_var,
    )
    checks.last_axis("codes", codes, "C", mean.shape[1])
    num_slots, code_size = mean.shape
    flat = codes.reshape(-1, code_size).T
    # The weights are a memory themselves, N(0, prior_var I), which each code is written into.
    prior_mean = jnp.zeros((num_slots, flat.shape[1]), mean.dtype)
    prior_cov = prior_var * jnp.eye(num_slots, dtype=mean.dtype)
    noise_vars = jnp.broadcast_to(noise_var, (code_size,))
    method = conditioning.cheapest(mean.T.shape, prior_mean.shape)
    episode = (mean.T, flat, noise_vars)
    weights, _ = conditioning.condition(method, None, prior_mean, prior_cov, *episode)
    return weights.T.reshape(*codes.shape[:-1], num_slots)


@jax.jit  # its gradient, taken eagerly, is compiled once
def _write_diagonal(mean, variances, write_weights, codes, noise_vars) -> KanervaState:
    """Rank-one updates, after each of which the covariances are dropped."""
    episode = (write_weights, codes, noise_vars)
    return KanervaState(*jax.lax.scan(_update_diagonal, (mean, variances), episode)[0])


def _update_diagonal(state: tuple[chex.Array, chex.Array], write: Any) -> Any:
    (mean, variances), (weight, code, noise_var) = state, write
    cross_cov = variances * weight
    told = weight @ cross_cov
    noise_var = bounded_noise(told, noise_var)
    gain = cross_cov / (told + noise_var)
    mean = mean + jnp.outer(gain, code - weight @ mean)
    return (mean, jnp.maximum(variances - gain * cross_cov, 0.0)), None


def _take_episode(memory, write_weights, codes, noise_var) -> list[chex.Array]:
    """Refuses what does not fit; all arrays in one wide type, noise `[T]`."""
    mean, row_cov, write_weights, codes, noise_vars = _take(
        memory,
        integers=("write_weights", "noise_var"),
        write_weights=write_weights,
        codes=codes,
        noise_var=noise_var,
    )
    checks.episode(mean, write_weights, codes, noise_vars)
    checks.not_negative("noise_var", noise_var)
    return [mean, row_cov, write_weights, codes, jnp.broadcast_to(noise_vars, (len(codes),))]


def _take(
    memory: KanervaState, name: str = "memory", integers: tuple[str, ...] = (), **arrays: Any
) -> list[chex.Array]:
    """mean, row_cov and other arrays, checked, in one wide type."""
    fields = checks.fields(name, memory, KanervaState)
    (mean, row_cov, *others), _ = checks.reals(integers=integers, **fields, **arrays)
    checks.num_axes(f"{name}.mean", mean, "[N, C]")
    num_slots = len(mean)
    if row_cov.shape != (num_slots,):
        checks.shape(f"{name}.row_cov", row_cov, (num_slots, num_slots), "[N] or [N, N]")
    return [mean, row_cov, *others]
