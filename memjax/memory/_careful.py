"""Conditioning a matrix Gaussian where plain forms fail: noise that is small or zero.

A plain form factors I + B'B, with B = D^-1/2 W F and U = F F'. Rounding is then eps |B|^2 beside 1,
and what was not observed is lost in it. Here the factor of a shifted square, which always exists,
only makes B shorter; the square of that is factored in turn, and so on, until what is factored is
nearly I. Rounding then costs eps |B| or less. Source: Fukaya et al. 2020, Shifted Cholesky QR for
Computing the QR Factorization of Ill-Conditioned Matrices.

It takes some times as long as a plain form. `choose` runs it only where it is needed.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from memjax.memory._linalg import (
    bounded_noise,
    epsilon,
    shifted_cholesky,
    solve_left,
    symmetrize,
)

ACCURACY = 1e-4  # that plain forms must keep, relative to the prior's variance


class Posterior(NamedTuple):
    """What conditioning found, and what its derivatives are made of."""

    mean: chex.Array  # R+ [N, C]
    row_cov: chex.Array  # U+ [N, N]
    gain: chex.Array  # G = U+ W' D^-1 [N, T]
    residual: chex.Array  # E = D^-1 (Z - W R+) [T, C]
    pull: chex.Array  # W' E [N, C]
    keep: chex.Array  # I - G W, which is U+ U^-1 [N, N]


def condition(
    mean: chex.Array,
    row_cov: chex.Array,
    weights: chex.Array,
    codes: chex.Array,
    noise_var: chex.Array,
    total: Callable = lambda x: x,
) -> Posterior:
    """The posterior of M ~ MN(mean, row_cov, I) given codes = weights M + noise.

    Noise of zero counts as the least that can be told from it; see `_linalg.bounded_noise`. A
    row_cov may be singular. `total` adds up what several devices hold of the writes.

    Args:
      mean: R, `[N, C]`.
      row_cov: U, `[N, N]`, symmetric.
      weights: W, `[T, N]`.
      codes: Z, `[T, C]`.
      noise_var: D, `[T]`.
      total: sums a pytree over devices.
    """
    root, inverse_root = _roots(row_cov)
    rooted = weights @ root
    noise_var = bounded_noise(jnp.sum(jnp.square(rooted), axis=1), noise_var)
    scale = jax.lax.rsqrt(noise_var)[:, None]
    scaled, innovation = scale * rooted, scale * (codes - weights @ mean)
    identity = basis = jnp.eye(len(mean), dtype=mean.dtype)
    for shift in (1.0, 1.0, 1.0, 0.0):
        square = symmetrize(total(scaled.T @ scaled)) + basis.T @ basis
        factor = shifted_cholesky(square, shift)
        scaled, basis = (solve_left(factor, matrix.T).T for matrix in (scaled, basis))
    # Now scaled' scaled + basis' basis = I, and basis basis' = (I + B'B)^-1.
    moved = total(scaled.T @ innovation)
    left = innovation - scaled @ moved
    # Of two large things: what is lost of the part along `scaled`, which is known, is put back.
    left = left + scaled @ (basis.T @ (basis @ moved) - total(scaled.T @ left))
    half = root @ basis
    gain = half @ (scale * scaled).T
    # By differences, what is kept where U has no inverse; elsewhere they would lose its digits.
    outside = identity - root @ inverse_root
    return Posterior(
        mean=mean + half @ moved,
        row_cov=symmetrize(half @ half.T),
        gain=gain,
        residual=scale * left,
        pull=inverse_root.T @ (basis @ moved),
        keep=half @ (basis.T @ inverse_root) + outside - total(gain @ (weights @ outside)),
    )


def choose(plain_is_right: chex.Array, plain: Callable, careful: Callable, *operands: Any) -> Any:
    """`plain(*operands)` if a scalar says so, else `careful(*operands)`; only one of them runs.

    Under `vmap`, where `lax.cond` would run both, the plain one runs if it is right for all; what
    is found is batched, all of it, along the first axis. The rule of a `custom_jvp` must batch as
    its function does, which under `jit` and `checkpoint` JAX does not look at: give back from it
    what `choose` found. Give the same functions at every call: JAX compiles new ones anew.
    """

    @jax.custom_batching.custom_vmap
    def chosen(plain_is_right: chex.Array, *operands: Any) -> Any:
        return jax.lax.cond(plain_is_right, plain, careful, *operands)

    @chosen.def_vmap
    def chosen_for_all(axis_size, in_batched, plain_is_right, *operands):
        axes = tuple(0 if batched else None for batched in in_batched[1:])
        both = (jax.vmap(function, axes, axis_size=axis_size) for function in (plain, careful))
        results = choose(jnp.all(plain_is_right), *both, *operands)
        return results, jax.tree.map(lambda _: True, results)

    return chosen(plain_is_right, *operands)


def _roots(row_cov: chex.Array) -> tuple[chex.Array, chex.Array]:
    """F with U = F F', and its inverse where it has one, for a U that may be singular."""
    values, vectors = jnp.linalg.eigh(row_cov)
    invertible = values > len(values) * epsilon(values) * values[-1]
    inverse = jnp.where(invertible, jax.lax.rsqrt(jnp.where(invertible, values, 1.0)), 0.0)
    root = jnp.sqrt(jnp.maximum(values, 0.0))
    return vectors * root[None, :], inverse[:, None] * vectors.T
