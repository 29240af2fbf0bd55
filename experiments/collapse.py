"""Why a learned memory falls onto few slots: python -m experiments.collapse --workdir=DIR.

Trains `vma_mnist_learned` twice for some steps: as the config is, and as learned memories usually
begin, with slots from N(0, 1) that learn as fast as the nets, and a decoder that begins anywhere.
Draws `collapse.png`: over the steps, how many slots p(a) spreads over, how many all q(a|x)
together, and how many one of them, each as the exponential of an entropy; and p(a) and the mean
q(a|x) themselves, over the first held-out images.
"""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from ml_collections import ConfigDict

from experiments import cli
from experiments.configs import vma_mnist_learned
from memjax import data, plotting
from memjax.errors import check_at_least_one
from memjax.training import Experiment, TrainState, build, init_state, train

_IMAGES, _SNAPSHOTS = 1_000, 40
_USUAL = {"model.slot_scale": 1.0, "model.zero_output": False, "optimizer.memory_rate": 1.0}
SETTINGS = {"slots from N(0, 1), as fast as the nets": _USUAL, "vma_mnist_learned": {}}

_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the runs and the picture.", required=True
)
_STEPS = flags.DEFINE_integer("num_steps", 2_000, "Steps of each run, a multiple of 40.")


def main() -> None:
    """Trains both and draws."""
    check_at_least_one(num_steps=_STEPS.value)
    folder = Path(_WORKDIR.value)
    runs = {}
    for i, (name, fields) in enumerate(SETTINGS.items()):
        config = vma_mnist_learned.get_config()
        config.update_from_flattened_dict(fields)
        runs[name] = watch(config, folder / f"run_{i}", _STEPS.value)
    draw(folder / "collapse.png", runs)
    print(folder / "collapse.png")


def watch(config: ConfigDict, workdir: Path, num_steps: int) -> list[np.ndarray]:
    """Before the first step and at equal distances after it, with a leading axis of these.

    The step; p(a) `[N]`; the mean q(a|x) `[N]`; the mean entropy of q(a|x), in nats.
    """
    config.training.update(num_steps=num_steps, eval_every=num_steps, checkpoint_every=num_steps)
    config.training.log_every = max(1, num_steps // _SNAPSHOTS)
    experiment = build(config)
    look = jax.jit(partial(_addresses, experiment))
    snapshots = []

    def snap(step: int, metrics: dict[str, float], state: TrainState) -> None:
        prior, posterior = map(np.asarray, look(jax.device_get(state.params)))
        snapshots.append((step, prior, posterior.mean(axis=0), _entropy(posterior).mean()))

    snap(0, {}, init_state(experiment))
    train(experiment, workdir, [snap])
    return [np.stack(values) for values in zip(*snapshots, strict=True)]


def _addresses(experiment: Experiment, params: dict) -> tuple[jax.Array, jax.Array]:
    """p(a) `[N]` and q(a|x) `[images, N]`."""
    stage, rng_key = experiment.eval, jax.random.key(0)
    ask = partial(experiment.model.apply, {"params": params}, rng_key)
    count = min(_IMAGES, len(stage.arrays.images))
    queries = stage.gather(stage.arrays, data.EpisodeIndices(jnp.arange(count))).query
    memory: Any = ask(None, method="write")
    look: Any = partial(ask, memory=memory, method="address_logits")
    return jax.nn.softmax(memory.prior_logits), jax.nn.softmax(jax.vmap(look)(queries))


def draw(path: Path, runs: dict[str, list[np.ndarray]]) -> None:
    """A row of three panels for each run."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.3 * len(runs)), layout="constrained")
    for axes, (name, seen) in zip(figure.subplots(len(runs), 3), runs.items(), strict=True):
        steps, prior, mean, one = seen
        lines = {"p(a)": _entropy(prior), "mean q(a|x)": _entropy(mean), "one q(a|x)": one}
        for colour, (label, entropies) in zip(plotting.COLOURS, lines.items(), strict=False):
            axes[0].plot(steps, np.exp(entropies), label=label, color=colour)
        axes[0].set(title=name, xlabel="step", ylabel="slots: exp(entropy)", yscale="log")
        axes[0].set_ylim(0.9, 1.2 * prior.shape[1])
        axes[0].grid(alpha=0.3)
        axes[0].legend(frameon=False)
        order = np.argsort(-mean[-1])
        for axis, title, probs in ((axes[1], "p(a)", prior), (axes[2], "mean q(a|x)", mean)):
            shares = np.log10(np.maximum(probs[:, order].T, 1e-4))
            extent = (0, steps[-1], probs.shape[1], 0)
            image = axis.imshow(shares, aspect="auto", vmin=-4, vmax=0, extent=extent)
            axis.set(title=title, xlabel="step", ylabel="slot, by mean q(a|x) at the end")
            figure.colorbar(image, ax=axis, label="log10")
    figure.savefig(path, dpi=110)


def _entropy(probs: np.ndarray) -> np.ndarray:
    """Over the last axis, in nats."""
    return -np.sum(probs * np.log(np.maximum(probs, 1e-30)), axis=-1)


if __name__ == "__main__":
    cli.run(main)
