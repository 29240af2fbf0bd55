"""Steps that are not finite: never taken, named, and skipped where that is asked for."""

import logging
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from memjax import data
from memjax.errors import UserError
from memjax.training import processes
from memjax.training import step as step_lib
from memjax.training.experiment import Experiment
from memjax.training.metrics import MetricWriter
from memjax.training.step import TrainState

_LOG = logging.getLogger("memjax")


class NotFiniteError(UserError):
    """A step that can't be taken; what it names is the first of its quantities that is bad."""


def make_advance(
    experiment: Experiment,
    in_loop: bool,
    state: TrainState,
    arrays: data.ImageArrays,
    writer: MetricWriter | processes.Nowhere,
) -> Callable[[TrainState, int], tuple[TrainState, NotFiniteError | None]]:
    """A function that takes steps up to one, compiled; `state` and `arrays` are replicated.

    It returns the new state. If a step gives a number that is not finite, it returns the state
    before that step and an error for the user. With `training.skip_nonfinite` such a step is
    only counted, and noted by `writer`.
    """
    skip = experiment.skip_nonfinite
    devices = step_lib.device_indices()
    call = step_lib.make_train_call(experiment, in_loop)
    if jax.process_count() == 1:  # a pmap over several can't be compiled ahead
        # Now, so that no timing holds a compilation.
        call = call.lower(state, np.int32(0), arrays, devices).compile()
    # These are compiled only when a step is bad.
    find_bad = step_lib.make_train_call(experiment, in_loop, stop_where_bad=True)
    diagnose = step_lib.make_diagnosis_call(experiment)

    def advance(state: TrainState, stop: int) -> tuple[TrainState, NotFiniteError | None]:
        while int(state.step) < stop:
            before = state
            state, finite = call(before, np.int32(stop), arrays, devices)
            if finite:
                continue
            state, finite = find_bad(before, np.int32(stop), arrays, devices)
            if finite:  # this program rounds in another way
                continue
            step = int(state.step)
            state = before
            if int(before.step) < step - 1:
                state, _ = find_bad(before, np.int32(step - 1), arrays, devices)
            name = _first_bad(diagnose(state, arrays, devices))
            if not skip:
                return state, NotFiniteError(
                    f"step {step} is not taken: its {name} is not finite; "
                    "--config.training.skip_nonfinite=True goes on without such steps"
                )
            _LOG.warning("step %d is skipped: its %s is not finite", step, name)
            writer.write_skipped(step, name)
            state = step_lib.set_step(state, step)
        return state, None

    return advance


def _first_bad(stages: list[Any]) -> str:
    """The first quantity of a `make_diagnosis_call` that is not finite."""
    for stage in jax.device_get(stages):
        for path, finite in jax.tree_util.tree_leaves_with_path(stage):
            if finite < 1.0:
                return " ".join(str(getattr(k, "key", getattr(k, "name", k))) for k in path)
    return "state"  # another compilation rounds in another way
