"""Runs of a model that is a few functions: what a task makes of its numbers can be worked out."""

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from memjax import data
from memjax.evaluation import Run
from memjax.training import Experiment, Stage

CLASSES, MEMBERS = 6, 8


class FakeModel:
    """A model whose methods are the functions that it is given."""

    def __init__(self, **methods: Any):
        vars(self).update(methods)

    def apply(self, variables, *arguments, method, **options):
        return getattr(self, method)(*arguments, **options)


@dataclasses.dataclass(frozen=True)
class FakeRun(Run):
    """Fits every task; keeps the episodes that are fetched for it."""

    fetched: list = dataclasses.field(default_factory=list)

    def require(self, *_):
        pass

    def require_episodes(self, *_):
        pass

    def require_addresses(self, *_):
        pass

    def fetch(self, indices):
        self.fetched.append(super().fetch(indices))
        return self.fetched[-1]


def make_images() -> np.ndarray:
    """Noise `[48, 4, 7, 2]`, but for two pixels that tell an image's class and its number."""
    images = np.random.default_rng(0).integers(0, 256, (CLASSES * MEMBERS, 4, 7, 2), np.uint8)
    images[:, 0, 0, 0] = np.arange(len(images)) // MEMBERS
    images[:, 0, 1, 0] = np.arange(len(images))
    return images


def class_of(image):
    """An image's class; of several, theirs."""
    return (image[..., 0, 0, 0] * 255 + 0.5).astype(int)


def number_of(image):
    """An image's number in the data."""
    return (image[..., 0, 1, 0] * 255 + 0.5).astype(int)


def make_run(
    episodes: str = "minibatch",
    batch_size: int = 4,
    num_classes: int = CLASSES,
    **methods: Any,
) -> FakeRun:
    """A run of these methods on the images, evaluated on minibatches or few-shot episodes."""
    images = make_images()[: num_classes * MEMBERS]
    arrays = data.ImageArrays.create(images, (np.arange(len(images)) // MEMBERS).astype(np.int32))
    draw = partial(data.minibatch, batch_size=batch_size)
    stage = Stage(arrays, draw, lambda arrays, indices, _: data.gather(arrays, indices), batch_size)
    fields = {"name": episodes, "num_support": 2}
    config = ConfigDict({"eval": {"episodes": fields}, "model": {"name": "fake"}, "data_dir": ""})
    model: Any = FakeModel(**methods)
    optimizer: Any = None
    return FakeRun(Experiment(config, model, optimizer, stage, stage), {}, step=3)


class Images(NamedTuple):
    mean: Any
    sample: Any


def halving_run(**methods):
    """A memory is what was written; a reading has half of what asks, and samples 3/4 of it."""
    fields = {
        "write": lambda rng_key, episode: episode,
        "read": lambda rng_key, memory, query: Images(0.5 * query, 0.75 * query),
        "generate_from": lambda rng_key, memory, num_samples: Images(
            memory[:num_samples] + 1.0, memory[:num_samples] + 2.0
        ),
    }
    return make_run(**(fields | methods))


def mean_error(images, others):
    return np.mean(np.abs(np.asarray(images, np.float64) - np.asarray(others, np.float64)))
