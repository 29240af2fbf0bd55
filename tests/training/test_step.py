"""What a step computes, worked out by hand: parameters, their average, epochs, metrics."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from memjax import data
from memjax.training import Experiment, Stage, TrainState, loop, processes
from memjax.training import step as step_lib

_IMAGES, _BATCH, _RATE, _DECAY = 12, 5, 0.5, 0.9


class Linear(nn.Module):
    """Its objective is w times the query's pixel, whose gradient in w is the pixel."""

    image_shape: tuple[int, ...] = (1, 1, 1)

    def write(self, rng_key, support):
        return None

    @nn.compact
    def __call__(self, rng_key, query, memory, *, train):
        objective = self.param("w", nn.initializers.zeros, ()) * query[0, 0, 0]
        return objective, {"nll": -objective, "train": jnp.float32(train)}

    def log_weights(self, rng_key, query, memory, num_samples):
        raise NotImplementedError

    generate = explain = log_weights


class FirstImages(Stage):
    """A query's pixel is its index, and 100 more for every epoch."""

    def gather(self, arrays, indices, epoch=0):
        episode = super().gather(arrays, indices, epoch)
        pixel = indices.query + 100.0 * epoch
        return dataclasses.replace(episode, query=pixel[:, None, None, None])


@pytest.fixture
def experiment():
    """It draws always the first images."""
    images = np.zeros((_IMAGES, 1, 1, 1), np.uint8)
    arrays = data.ImageArrays.create(images, np.full(_IMAGES, -1))
    stage = FirstImages(arrays, lambda rng_key, arrays: data.EpisodeIndices(jnp.arange(_BATCH)))
    sizes = {"num_eval_batches": 3, "ema_decay": _DECAY}
    return Experiment(Linear(), optax.sgd(_RATE), stage, stage, **sizes)


def initial_state(w):
    zeros = {"nll": jnp.float32(0.0), "train": jnp.float32(0.0)}
    params = {"w": jnp.float32(w)}
    state = optax.sgd(_RATE).init(params)
    return TrainState(jnp.int32(0), jax.random.key(0), params, {}, state, params, zeros)


@pytest.mark.parametrize("in_loop", [False, True])
def test_steps_by_hand(experiment, in_loop):
    call = step_lib.make_train_call(experiment, in_loop)
    state, arrays = step_lib.replicate((initial_state(2.0), experiment.train.arrays))
    w = average = 2.0
    total, num_steps = 0.0, 8
    for step in range(num_steps):
        epoch = step * _BATCH // _IMAGES  # 0, 0, 0, 1, 1, 2, 2, 2: three of them
        pixel = np.mean(np.arange(_BATCH)) + 100 * epoch
        total -= w * pixel
        w += _RATE * pixel
        average = _DECAY * average + (1 - _DECAY) * w
        if not in_loop:
            state, finite = call(state, np.int32(num_steps), arrays, step_lib.device_indices())
            assert finite and int(state.step) == step + 1
    if in_loop:
        state, _ = call(state, np.int32(num_steps), arrays, step_lib.device_indices())
    assert int(state.step) == num_steps
    assert float(state.params["w"]) == pytest.approx(w)
    assert float(state.eval_variables["params"]["w"]) == pytest.approx(average)
    assert float(state.metric_sums["nll"]) == pytest.approx(total)
    assert float(state.metric_sums["train"]) == num_steps


def test_the_held_out_metrics_are_means_over_batches(experiment):
    state = step_lib.replicate(initial_state(3.0))
    evaluate = loop._make_evaluation(experiment, "threefry2x32")
    found = evaluate(state)
    assert found == {"eval/nll": pytest.approx(-3.0 * np.mean(np.arange(_BATCH))), "eval/train": 0}


@pytest.mark.parametrize(("step", "left"), [(8, 0.0), (7, 6.0)], ids=["whole", "the run's end"])
def test_metrics_are_written_as_means_over_the_steps_taken(step, left):
    """In intervals of 4, whose sums are kept where the run ends within one."""

    class Writer(processes.Nowhere):
        def count_skipped(self, first, last):
            assert (first, last) == (5, step)
            return 1

    state = initial_state(0.0)
    sums = {"nll": jnp.float32(6.0), "train": jnp.float32(3.0)}
    state = TrainState(**(vars(state) | {"metric_sums": sums}))
    metrics, after = loop._take_metrics(state, step, 4, Writer())
    assert metrics == {"nll": 6.0 / (step - 5), "train": 3.0 / (step - 5)}
    assert {name: float(value) for name, value in after.metric_sums.items()} == {
        "nll": left,
        "train": left / 2,
    }
