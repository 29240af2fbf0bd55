"""How exact Kanerva writes are, by the noise: python -m benchmarks.noise --figure=docs/noise.png.

Float32 beside the exact posterior, by singular values in float64. Every method of `kanerva.write`,
and the plain T x T and N x N solves, which it uses while they are right. Three episodes: weights
that are all different, four weights over and over, and four clusters of weights that are nearly
alike; the codes are what the weights say of a drawn memory, and noise.
"""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments import cli
from memjax.memory import kanerva

_FIGURE = flags.DEFINE_string("figure", "docs/noise.png", "Where the plot goes.")
_WRITES, _SLOTS, _CODE = 256, 64, 8
_LEAST = 1e-9  # drawn for an error of less


def main() -> None:
    """Prints the largest errors and draws the plot."""
    from memjax import plotting
    from memjax.evaluation import Curves

    noises = np.geomspace(1e-8, 1e4, 25)
    panels = {}
    for kind in ("different weights", "four weights", "four clusters"):
        lines = {name: ([], []) for name in _METHODS}
        for noise in noises:
            errors = measure(kind, noise)
            for name, error in errors.items():
                drawn = np.clip(error, _LEAST, 1e3)
                lines[name][0].append(noise)
                lines[name][1].append(drawn if np.isfinite(error) else np.nan)
            shown = ", ".join(f"{name} {error:.1e}" for name, error in errors.items())
            print(f"{kind}, noise {noise:.0e}: {shown}", flush=True)
        panels[kind] = Curves("noise / prior's variance", "error of the mean", lines, "log")
    title = f"Kanerva writes in float32: T = {_WRITES}, N = {_SLOTS}"
    plotting.curves(Path(_FIGURE.value), panels, title)


def measure(kind: str, noise: float) -> dict[str, float]:
    """The largest error of the mean over its largest entry, by method."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(_WRITES, _SLOTS))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    spread = {"different weights": 1.0, "four weights": 0.0, "four clusters": 1e-3}[kind]
    repeated = 0.0 if kind == "different weights" else rows[np.arange(_WRITES) % 4]
    weights = (repeated + spread * rows).astype(np.float32)
    codes = weights @ rng.normal(size=(_SLOTS, _CODE))
    codes = (codes + noise**0.5 * rng.normal(size=codes.shape)).astype(np.float32)
    exact = exact_mean(weights, codes, noise)
    return {
        name: float(np.max(np.abs(write(weights, codes, noise) - exact)) / np.max(np.abs(exact)))
        for name, write in _METHODS.items()
    }


def exact_mean(weights: np.ndarray, codes: np.ndarray, noise: float) -> np.ndarray:
    """The mean for a prior of N(0, I)."""
    left, values, right = np.linalg.svd(weights.astype(np.float64), full_matrices=False)
    return right.T @ ((values / (values**2 + noise))[:, None] * (left.T @ codes))


@jax.jit
def _solve_by_writes(weights: jax.Array, codes: jax.Array, noise: jax.Array) -> jax.Array:
    cov = weights @ weights.T + noise * jnp.eye(len(weights))
    return weights.T @ jax.scipy.linalg.cho_solve((jnp.linalg.cholesky(cov), True), codes)


@jax.jit
def _solve_by_slots(weights: jax.Array, codes: jax.Array, noise: jax.Array) -> jax.Array:
    precision = jnp.eye(weights.shape[1]) + weights.T @ weights / noise
    factor = jnp.linalg.cholesky(precision)
    return jax.scipy.linalg.cho_solve((factor, True), weights.T @ codes / noise)


def _write(method: str) -> Callable:
    def write(weights: jax.Array, codes: jax.Array, noise: jax.Array) -> jax.Array:
        memory = kanerva.prior(_SLOTS, _CODE)
        return kanerva.write(memory, weights, codes, noise, method=method).mean

    return jax.jit(write)


_METHODS: dict[str, Callable] = {
    **{method: _write(method) for method in ("auto", "batch", "online")},
    "a plain T x T solve": _solve_by_writes,
    "a plain N x N solve": _solve_by_slots,
}


if __name__ == "__main__":
    cli.run(main)
