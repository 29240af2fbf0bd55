"""A million online writes in float32 beside float64: python -m tests.robustness.numerics.

Each writes one code into a Kanerva memory by `kanerva.write(method="online")`, with weights of all
slots alike, or of some directions only, in which the covariance falls by six orders of magnitude
beside the rest. Prints, and draws, how far the posterior is from float64's, in relative Frobenius
norm, and the least eigenvalue of row_cov over the one in float64.
"""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments import cli
from memjax.memory import kanerva

SLOTS, CODE, CHUNK = 16, 4, 100
_NOISE_VAR = 0.1


def main() -> None:
    """Writes, compares, draws."""
    from memjax import plotting
    from memjax.evaluation import Curves

    cov_drift, mean_drift, eigenvalues = {}, {}, {}
    for regime in ("all directions", "some directions"):
        found = measure(regime == "some directions", _WRITES.value)
        for i in np.unique(np.geomspace(1, len(found["writes"]), 7).astype(int)) - 1:
            shown = ", ".join(f"{k} {v[i]:.2g}" for k, v in found.items() if k != "writes")
            print(f"{regime}, {found['writes'][i]:8d} writes: {shown}")
        print(
            f"{regime}: symmetric {found['asymmetry'].max() == 0}, positive definite after each "
            f"{CHUNK} writes {found['least pivot'].min() > 0}"
        )
        drawn = np.unique(np.geomspace(1, len(found["writes"]), 100).astype(int)) - 1
        x = found["writes"][drawn]
        cov_drift[regime] = x, found["drift of row_cov"][drawn]
        mean_drift[regime] = x, found["drift of mean"][drawn]
        eigenvalues[regime] = x, found["least eigenvalue / float64's"][drawn]
    panels = {
        "row_cov's distance from float64": Curves("writes", "relative error", cov_drift, "log"),
        "the mean's": Curves("writes", "relative error", mean_drift, "log"),
        "least eigenvalue over float64's": Curves("writes", "ratio", eigenvalues, "log"),
    }
    plotting.curves(Path(_OUTPUT.value), panels, "Online Kanerva writes in float32")


def measure(some_directions: bool, num_writes: int) -> dict[str, np.ndarray]:
    """By how many writes: what became of the float32 posterior, beside the float64 one."""
    with jax.enable_x64(True):
        (mean32, cov32), pivots = _write_all(jnp.float32, some_directions, num_writes // CHUNK)
        (mean64, cov64), _ = _write_all(jnp.float64, some_directions, num_writes // CHUNK)
    cov32, mean32 = cov32.astype(np.float64), mean32.astype(np.float64)
    least = [np.linalg.eigvalsh(cov)[:, 0] for cov in (cov32, cov64)]
    return {
        "writes": CHUNK * (1 + np.arange(len(cov32))),
        "drift of row_cov": _relative(cov32, cov64),
        "drift of mean": _relative(mean32, mean64),
        "least eigenvalue": least[0],
        "least eigenvalue / float64's": least[0] / least[1],
        "least pivot": pivots,
        "asymmetry": np.abs(cov32 - cov32.swapaxes(1, 2)).max(axis=(1, 2)),
    }


@partial(jax.jit, static_argnums=(0, 1, 2))
def _scan_writes(dtype, some_directions: bool, num_chunks: int):
    """Mean and row_cov after each chunk, and the least pivot of its Cholesky factor, or NaN."""
    slots, code = jax.random.normal(jax.random.key(1), (2, SLOTS, max(SLOTS, CODE)), jnp.float32)
    truth, directions = slots[:, :CODE], jnp.linalg.qr(code)[0][: SLOTS // 2]

    def chunk(memory: kanerva.KanervaState, i) -> tuple[kanerva.KanervaState, tuple]:
        weight_rng_key, noise_rng_key = jax.random.split(jax.random.fold_in(jax.random.key(0), i))
        # Both precisions see the same numbers.
        weights = jax.random.normal(weight_rng_key, (CHUNK, SLOTS), jnp.float32)
        if some_directions:
            weights = weights[:, : SLOTS // 2] @ directions
        noise = jax.random.normal(noise_rng_key, (CHUNK, CODE), jnp.float32)
        codes = weights @ truth + jnp.float32(_NOISE_VAR**0.5) * noise
        episode = weights.astype(dtype), codes.astype(dtype), jnp.asarray(_NOISE_VAR, dtype)
        memory = kanerva.write(memory, *episode, method="online")
        pivot = jnp.min(jnp.diagonal(jnp.linalg.cholesky(memory.row_cov, symmetrize_input=False)))
        return memory, (memory.mean, memory.row_cov, pivot)

    prior = jax.tree.map(lambda leaf: leaf.astype(dtype), kanerva.prior(SLOTS, CODE))
    return jax.lax.scan(chunk, prior, jnp.arange(num_chunks))[1]


def _write_all(dtype, some_directions: bool, num_chunks: int):
    mean, row_cov, pivots = jax.device_get(_scan_writes(dtype, some_directions, num_chunks))
    return (mean, row_cov), pivots


def _relative(found: np.ndarray, exact: np.ndarray) -> np.ndarray:
    norms = [np.linalg.norm(a, axis=(1, 2)) for a in (found - exact, exact)]
    return norms[0] / norms[1]


if __name__ == "__main__":
    _WRITES = flags.DEFINE_integer("writes", 1_000_000, "How many.")
    _OUTPUT = flags.DEFINE_string("output", "docs/drift.png", "The picture.")
    cli.run(main)
