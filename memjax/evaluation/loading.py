"""Runs of folders."""

import dataclasses
from functools import partial
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from memjax.errors import UserError
from memjax.evaluation import pretrained
from memjax.evaluation.run import Run
from memjax.training import Experiment, TrainState, build, init_state
from memjax.training.checkpoints import Checkpoints
from memjax.training.workdir import load_config


def load_run(workdir: str | Path, data_dir: str = "", experiment: Experiment | None = None) -> Run:
    """The run in `workdir`, at its newest intact checkpoint, or a model that comes with memjax.

    Args:
      workdir: folder of the run; or `pretrained:NAME`, see `memjax.evaluation.pretrained`.
      data_dir: where the data sets are now, if not where the run was trained.
      experiment: the run's, where it was made in Python; else its config says it.

    Raises:
      UserError: no run, no pretrained model, no readable checkpoint, or no data.
    """
    given = None
    if str(workdir).startswith(pretrained.PREFIX):
        given = pretrained.read(str(workdir).removeprefix(pretrained.PREFIX))
    if experiment is None:
        config = ConfigDict(load_config(workdir)) if given is None else given.config
        if "dataset" not in config:
            raise UserError(f"workdir {workdir} was trained from Python: give its experiment too")
        if data_dir:
            config.data_dir = data_dir
        experiment = build(config)
    if given is not None:
        variables = given.variables(like=_template(experiment).eval_variables)
        return Run(experiment, variables, given.step)
    checkpoints = Checkpoints(workdir, read_only=True)
    try:
        state = checkpoints.restore(like=_template(experiment))
    finally:
        checkpoints.close()
    if state is None:
        raise UserError(f"workdir {workdir} holds no checkpoint; train it first")
    return Run(experiment, state.eval_variables, int(state.step))


def _template(experiment: Experiment) -> TrainState:
    """A state of zeros: to compute the first one would compile the model."""
    shapes = jax.eval_shape(partial(init_state, experiment))
    state = dataclasses.replace(shapes, rng_key=jax.random.key(0))
    return jax.tree.map(
        lambda x: x if isinstance(x, jax.Array) else np.zeros(x.shape, x.dtype), state
    )
