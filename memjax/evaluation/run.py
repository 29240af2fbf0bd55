"""A trained run, loaded; and what an evaluation says of it."""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import numpy as np
from ml_collections import ConfigDict

from memjax import data
from memjax.errors import UserError
from memjax.models.episodic import EpisodicVAE
from memjax.training import Experiment, build, init_state
from memjax.training.checkpoints import Checkpoints
from memjax.training.workdir import load_config

_CHUNK = 500  # images that are mapped at a time


@dataclasses.dataclass(frozen=True)
class Run:
    """A trained model with the experiment that it comes from.

    Attributes:
      experiment: config, model, data and samplers.
      variables: the model's variables as evaluation uses them.
      step: of the checkpoint.
    """

    experiment: Experiment
    variables: dict[str, Any]
    step: int

    @property
    def model(self) -> nn.Module:
        """The model."""
        return self.experiment.model

    def map(
        self,
        method: str,
        rng_key: chex.PRNGKey,
        queries: chex.Array,
        support: chex.Array | None,
        **options: Any,
    ) -> Any:
        """`model.method(rng_key, query, support, **options)` for each of the queries `[B, ...]`.

        Compiled once for the shapes and the options; the results have the leading axis B.
        """
        return self._vmap(method, rng_key, (queries,), (support,), options)

    def map_images(self, method: str, rng_key: chex.PRNGKey, images: chex.Array) -> Any:
        """`model.method(rng_key, image, None)` for each of a data set's images, as NumPy arrays.

        Args:
          method: the method's name.
          rng_key: of the model's samples.
          images: uint8 `[D, H, W, C]`; the model sees their grey levels, not binarised.
        """
        parts = []
        for start in range(0, len(images), _CHUNK):
            queries = np.asarray(images[start : start + _CHUNK], np.float32) / 255
            parts.append(self.map(method, jax.random.fold_in(rng_key, start), queries, None))
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)

    def apply(self, method: str, rng_key: chex.PRNGKey, *arguments: Any, **options: Any) -> Any:
        """`model.method(rng_key, *arguments, **options)` along the leading axes of `arguments`.

        Compiled once for the shapes and the options; the results have the same leading axis.
        """
        return self._vmap(method, rng_key, arguments, (), options)

    def _vmap(
        self,
        method: str,
        rng_key: chex.PRNGKey,
        batched: tuple[Any, ...],
        shared: tuple[Any, ...],
        options: dict[str, Any],
    ) -> Any:
        rng_keys = jax.random.split(rng_key, len(jax.tree.leaves(batched)[0]))
        named_options = tuple(sorted(options.items()))
        inputs = (self.variables, rng_keys, batched, shared)
        return _vmap(self.model, method, named_options, *inputs)

    def require(self, task: str, met: bool, needed: str) -> None:
        """Refuses a model that a task can't work with.

        Raises:
          UserError: not `met`; it says that the task needs what is `needed`.
        """
        if not met:
            name = self.experiment.config.model.name
            raise UserError(f"task {task} needs {needed}; this is a {name}")

    def require_episodes(self, task: str) -> None:
        """Refuses a model that does not write episodes into a memory; see `require`."""
        writes = isinstance(self.model, EpisodicVAE)
        self.require(task, writes, "a model that writes episodes into its memory")

    def require_addresses(self, task: str) -> None:
        """Refuses a model that does not address the support; see `require`."""
        learned = bool(self.experiment.config.model.get("num_slots"))
        addresses = hasattr(self.model, "address_logits") and not learned
        self.require(task, addresses, "a model that addresses the support")

    def fetch(self, indices: data.EpisodeIndices) -> data.Episode:
        """The held-out images of an episode."""
        stage = self.experiment.eval
        return stage.gather(stage.arrays, indices, 0)

    def eval_episode(self, rng_key: jax.Array) -> data.Episode:
        """An episode of the config's evaluation sampler, of held-out data: queries `[B, ...]`."""
        stage = self.experiment.eval
        return self.fetch(stage.draw(rng_key, stage.arrays))

    def draw_episodes(
        self, rng_key: chex.PRNGKey, num_episodes: int, episode_length: int, num_classes: int = 0
    ) -> jax.Array:
        """Held-out images `[num_episodes, episode_length, H, W, C]` of a few classes; 0: of any.

        Raises:
          UserError: a number below 1, or more images or classes than the data have.
        """
        arrays = self.experiment.eval.arrays
        sizes = {"num_episodes": num_episodes, "episode_length": episode_length}
        if num_classes:
            indices = data.few_classes(rng_key, arrays, num_classes=num_classes, **sizes)
        else:
            indices = data.unstructured(rng_key, arrays, **sizes)
        return self.fetch(indices).query


class Curves(NamedTuple):
    """One panel of lines.

    Attributes:
      x_label: of the x axis.
      y_label: of the y axis.
      lines: by name, the x and the y of each.
      scale: of both axes, "linear" or "log".
    """

    x_label: str
    y_label: str
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    scale: str = "linear"


@dataclasses.dataclass(frozen=True)
class Report:
    """What an evaluation found.

    Attributes:
      table: rows of named numbers or words, all with the same names.
      grids: pictures by name; each has rows, by name, of images `[n, H, W, C]` in [0, 1].
      curves: pictures by name; each has panels, by name.
      matrices: pictures by name; each has panels, by name, of a matrix.
    """

    table: list[dict[str, Any]]
    grids: Mapping[str, Mapping[str, np.ndarray]] = dataclasses.field(default_factory=dict)
    curves: Mapping[str, Mapping[str, Curves]] = dataclasses.field(default_factory=dict)
    matrices: Mapping[str, Mapping[str, np.ndarray]] = dataclasses.field(default_factory=dict)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _vmap(model, method, options, variables, rng_keys, batched, shared) -> Any:
    def one(rng_key: chex.PRNGKey, arguments: tuple[Any, ...]) -> Any:
        arguments += shared
        return model.apply(variables, rng_key, *arguments, method=method, **dict(options))

    return jax.vmap(one)(rng_keys, batched)


def load_run(workdir: str | Path, data_dir: str = "") -> Run:
    """The run in `workdir`, at its newest intact checkpoint.

    Args:
      workdir: folder of the run.
      data_dir: where the data sets are now, if not where the run was trained.

    Raises:
      UserError: no run, no readable checkpoint, or no data.
    """
    config = ConfigDict(load_config(workdir))
    if data_dir:
        config.data_dir = data_dir
    experiment = build(config)
    checkpoints = Checkpoints(workdir, read_only=True)
    try:
        state = checkpoints.restore(like=init_state(experiment))
    finally:
        checkpoints.close()
    if state is None:
        raise UserError(f"workdir {workdir} holds no checkpoint; train it first")
    return Run(experiment, state.eval_variables, int(state.step))


def as_sequence(values: int | Sequence[int], most: int | None = None) -> Sequence[int]:
    """One number, or several: an option of a task may be either. Several are cut to `most`."""
    if isinstance(values, int):
        return [values]
    return values if most is None else list(dict.fromkeys(min(value, most) for value in values))
