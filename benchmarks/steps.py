"""Training steps of a config as the benchmarks take them."""

from collections.abc import Callable

import jax
import numpy as np

from memjax import data, training
from memjax.training import step as step_lib


def use_random_images(count: int, height: int, width: int) -> None:
    """Lets every data set be binary noise: the speed does not depend on what images show."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 2, (count, height, width, 1), np.uint8) * 255
    data.load = lambda *args: data.Dataset(images, np.zeros(count, np.int32))


def compile_steps(experiment: training.Experiment, num_steps: int) -> Callable[[], None]:
    """The loop's own compiled call of `num_steps`, already warm; returns when it is done."""
    state, arrays = step_lib.replicate((training.init_state(experiment), experiment.train.arrays))
    devices = step_lib.device_indices()
    stop = np.int32(num_steps)
    call = step_lib.make_train_call(experiment, in_loop=num_steps > 1)
    call = call.lower(state, stop, arrays, devices).compile()

    def take_steps() -> None:
        jax.block_until_ready(call(state, stop, arrays, devices))

    take_steps()
    return take_steps


def count_flops(experiment: training.Experiment) -> float:
    """Floating-point operations of a training step, as XLA counts them."""
    state, arrays = step_lib.replicate((training.init_state(experiment), experiment.train.arrays))
    call = step_lib.make_train_call(experiment, in_loop=False)
    lowered = call.lower(state, np.int32(1), arrays, step_lib.device_indices())
    return lowered.cost_analysis()["flops"]
