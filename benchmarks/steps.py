"""Training steps of a config as the benchmarks take them."""

import os
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments import listing
from memjax import data, training
from memjax.data import sources
from memjax.training import step as step_lib


def random_images(count: int, height: int, width: int) -> Callable[..., data.Dataset]:
    """In the place of `data.load`, noise: the speed does not depend on what images show."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 2, (count, height, width, 1), np.uint8) * 255
    return lambda *_, **__: data.Dataset(images, np.zeros(count, np.int32))


def config(name: str) -> ConfigDict:
    """The config `NAME`; `NAME:FIELD=COUNT` sets a field of its model."""
    name, _, change = name.partition(":")
    found = listing.load(name)
    if change:
        field, count = change.split("=")
        found.model[field] = int(count)
    return found


def steps_per_call(experiment: training.Experiment) -> int:
    """About what the loop chooses: one where XLA's loops are slow."""
    return 1 if step_lib.loops_are_slow(experiment, training.init_state(experiment)) else 50


def random_set(name: str, *_: object, **__: object) -> data.Dataset:
    """40 random images of each of 60 classes, of the set's shape."""
    shape = (2_400, *sources.SPECS[name].image_shape)
    images = np.random.default_rng(0).integers(0, 2, shape, np.uint8) * 255
    return data.Dataset(images, np.repeat(np.arange(60), 40).astype(np.int32))


def compile_steps(experiment: training.Experiment, num_steps: int) -> Callable[[], None]:
    """The loop's own compiled call of `num_steps`, already warm; returns when it is done."""
    lowered, arguments = _lower(experiment, num_steps)
    call = lowered.compile()

    def take_steps() -> None:
        jax.block_until_ready(call(*arguments))

    take_steps()
    return take_steps


def clock() -> Callable[[], float]:
    """In seconds: on a CPU the processor's, so that other work beside it does not count."""
    return time.process_time if jax.default_backend() == "cpu" else time.perf_counter


def seconds_per_step(experiment: training.Experiment, at_least: float) -> float:
    """Of a training that goes on for `at_least` so many seconds, and two steps."""
    per_call, now = steps_per_call(experiment), clock()
    take_steps = compile_steps(experiment, per_call)
    start, taken = now(), 0
    while now() - start < at_least or taken < 2:
        take_steps()
        taken += per_call
    return (now() - start) / taken


def count_flops(experiment: training.Experiment) -> float:
    """Floating-point operations of a training step, as XLA counts them, which are not oneDNN's."""
    with mock.patch.dict(os.environ, MEMJAX_ONEDNN="0"):
        return _lower(experiment, 1)[0].cost_analysis()["flops"]


def _lower(experiment: training.Experiment, num_steps: int) -> tuple[Any, tuple[Any, ...]]:
    """The call of `num_steps` from the first, not yet compiled, and its arguments."""
    state, arrays = step_lib.replicate((training.init_state(experiment), experiment.train.arrays))
    arguments = state, np.int32(num_steps), arrays, step_lib.device_indices()
    return step_lib.make_train_call(experiment, in_loop=num_steps > 1).lower(*arguments), arguments
