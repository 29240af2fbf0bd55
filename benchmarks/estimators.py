"""Bias and variance of every estimator's gradient: python -m benchmarks.estimators --figure=F.png.

One model, whose exact gradient is known by enumeration: a memory of N slots with log p(x, a) drawn
from a Gaussian, and a posterior q(a|x) that half knows it. The gradient is the one in q's logits.
Both figures are relative to the norm of the exact gradient of the bound with the same L.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments import cli
from experiments.reporting import format_table
from memjax import estimators
from memjax.memory import addressing

_FIGURE = flags.DEFINE_string("figure", "docs/estimators.png", "Where the plot goes.")
_DRAWS = flags.DEFINE_integer("draws", 40_000, "Gradients of each estimator.")
_SLOTS = (4, 8, 16, 32, 64, 512)
_MAX_TERMS = 800_000  # of the enumeration


def main(argv: Sequence[str]) -> None:
    """Prints the table and draws the plot."""
    del argv
    rows = []
    for num_slots, num_samples in itertools.product(_SLOTS, (2, 4, 8)):
        if math.comb(num_slots + num_samples - 1, num_samples) > _MAX_TERMS:
            continue
        log_joint, logits = model(num_slots)
        exact = jax.grad(exact_bound)(logits, log_joint, num_samples)
        row: dict[str, float | int] = {"num_slots": num_slots, "num_samples": num_samples}
        for name, objective in OBJECTIVES.items():
            bias, noise, spread = measure(objective, logits, log_joint, num_samples, exact)
            row |= {f"{name} bias": bias, f"{name} std": spread}
            if bias < 3 * noise:
                row[f"{name} bias"] = 0.0  # no more than what so many draws can tell
        rows.append(row)
    for figure in ("bias", "std"):
        print(f"\n{figure} / norm of the exact gradient\n")
        columns = ("num_slots", "num_samples", *(f"{name} {figure}" for name in OBJECTIVES))
        print(
            format_table([{c.removesuffix(f" {figure}"): row[c] for c in columns} for row in rows])
        )
    draw(Path(_FIGURE.value), rows)


def model(num_slots: int) -> tuple[jax.Array, jax.Array]:
    """log p(x, a) `[N]` and the logits of q(a|x) `[N]`."""
    joint_rng_key, noise_rng_key = jax.random.split(jax.random.key(num_slots))
    log_joint = 3.0 * jax.random.normal(joint_rng_key, (num_slots,))
    return log_joint, 0.5 * log_joint + jax.random.normal(noise_rng_key, (num_slots,))


def exact_bound(logits: jax.Array, log_joint: jax.Array, num_samples: int) -> jax.Array:
    """The expected bound."""
    log_q = jax.nn.log_softmax(logits)
    return estimators.exact(log_joint - log_q, log_q, num_samples)


def sampled(estimator: Callable, rng_key, logits, log_joint, num_samples) -> jax.Array:
    """An estimator of log weights and log probabilities, on addresses drawn from q."""
    addresses, log_q = addressing.sample(rng_key, logits, num_samples)
    return estimator(log_joint[addresses] - log_q, log_q)


def with_baseline(rng_key, logits, log_joint, num_samples) -> jax.Array:
    """NVIL whose baseline has learned all there is to learn: the expected bound."""
    baseline = jax.lax.stop_gradient(exact_bound(logits, log_joint, num_samples))
    return sampled(
        partial(estimators.nvil, baseline=baseline), rng_key, logits, log_joint, num_samples
    )


def relaxed(temperature: float, straight_through: bool, rng_key, logits, log_joint, num_samples):
    """IWAE on relaxed addresses."""
    weights = estimators.gumbel_softmax(
        rng_key, logits, num_samples, temperature, straight_through=straight_through
    )
    return estimators.iwae(weights @ (log_joint - jax.nn.log_softmax(logits)))


OBJECTIVES: dict[str, Callable] = {
    "vimco": partial(sampled, estimators.vimco),
    "geometric": partial(sampled, partial(estimators.vimco, baseline="geometric")),
    "reinforce": partial(sampled, estimators.reinforce),
    "nvil": with_baseline,
    "rws": partial(sampled, estimators.reweighted_wake_sleep),
    "gumbel 1.0": partial(relaxed, 1.0, False),
    "gumbel 0.3": partial(relaxed, 0.3, False),
    "straight": partial(relaxed, 1.0, True),
}


def measure(objective, logits, log_joint, num_samples, exact) -> tuple[float, float, float]:
    """Relative bias, its standard error, and relative standard deviation."""

    @jax.jit
    def gradients(rng_keys: jax.Array, logits: jax.Array, log_joint: jax.Array) -> jax.Array:
        def one(rng_key: jax.Array) -> jax.Array:
            return jax.grad(lambda x: objective(rng_key, x, log_joint, num_samples))(logits)

        return jax.vmap(one)(rng_keys)

    chunks = np.array_split(np.arange(_DRAWS.value), 20)
    rng_keys = jax.random.split(jax.random.key(1), _DRAWS.value)
    found = np.concatenate(
        [np.asarray(gradients(rng_keys[chunk], logits, log_joint)) for chunk in chunks]
    )
    norm = float(jnp.linalg.norm(exact))
    spread = float(np.sqrt(found.var(axis=0).sum())) / norm
    bias = float(np.linalg.norm(found.mean(axis=0) - np.asarray(exact))) / norm
    return bias, spread / np.sqrt(len(found)), spread


def draw(path: Path, rows: Sequence[dict]) -> None:
    """Standard deviation against bias, one panel for each number of samples."""
    from matplotlib.figure import Figure

    samples = sorted({row["num_samples"] for row in rows})
    figure = Figure(figsize=(4 * len(samples), 3.6))
    panels = figure.subplots(1, len(samples), sharex=True, sharey=True)
    for axis, num_samples in zip(panels, samples, strict=True):
        chosen = [row for row in rows if row["num_samples"] == num_samples]
        slots = [row["num_slots"] for row in chosen]
        for name in OBJECTIVES:
            error = [np.hypot(row[f"{name} bias"], row[f"{name} std"]) for row in chosen]
            style = "o--" if name == "geometric" else "o-"  # equal to vimco with 2 samples
            axis.plot(slots, error, style, markersize=3, label=name)
        axis.set(title=f"{num_samples} samples", xlabel="slots", xscale="log", yscale="log")
        axis.set_xticks(_SLOTS, [str(slots) for slots in _SLOTS])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    panels[0].set_ylabel("root mean square error of one gradient\n/ norm of the exact one")
    panels[-1].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    cli.run(main)
