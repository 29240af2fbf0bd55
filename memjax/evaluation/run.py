"""A trained run, loaded; and what an evaluation says of it."""

import dataclasses
from collections.abc import Sequence
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
        rng_keys = jax.random.split(rng_key, len(queries))
        named_options = tuple(sorted(options.items()))
        return _map(self.model, method, named_options, self.variables, rng_keys, queries, support)

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

    def eval_episode(self, rng_key: jax.Array) -> data.Episode:
        """An episode of the config's evaluation sampler, of held-out data."""
        stage = self.experiment.eval
        return stage.gather(stage.arrays, stage.draw(rng_key, stage.arrays), 0)


class Curves(NamedTuple):
    """One panel of lines.

    Attributes:
      x_label: of the x axis.
      y_label: of the y axis.
      lines: by name, the x and the y of each.
    """

    x_label: str
    y_label: str
    lines: dict[str, tuple[Sequence[float], Sequence[float]]]


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
    grids: dict[str, dict[str, np.ndarray]] = dataclasses.field(default_factory=dict)
    curves: dict[str, dict[str, Curves]] = dataclasses.field(default_factory=dict)
    matrices: dict[str, dict[str, np.ndarray]] = dataclasses.field(default_factory=dict)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _map(model, method, options, variables, rng_keys, queries, support) -> Any:
    def one(rng_key: chex.PRNGKey, query: chex.Array) -> Any:
        return model.apply(variables, rng_key, query, support, method=method, **dict(options))

    return jax.vmap(one)(rng_keys, queries)


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
    checkpoints = Checkpoints(workdir)
    try:
        state = checkpoints.restore(like=init_state(experiment))
    finally:
        checkpoints.close()
    if state is None:
        raise UserError(f"workdir {workdir} holds no checkpoint; train it first")
    return Run(experiment, state.eval_variables, int(state.step))
