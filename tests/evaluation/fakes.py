"""Runs of a model that is a few functions: what a task makes of its numbers can be worked out."""

import dataclasses
from functools import partial
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np

from memjax import data
from memjax.evaluation import Run
from memjax.models import Images
from memjax.training import Stage

CLASSES, MEMBERS = 6, 8


class FakeModel:
    """A model whose methods are the functions that it is given; its memory is what was written."""

    def __init__(self, **methods: Any):
        vars(self).update({"write": lambda rng_key, support: support} | methods)

    def apply(self, variables, *arguments, method, **options):
        assert not options.get("train")  # no task trains
        return getattr(self, method)(*arguments, **options)


@dataclasses.dataclass(frozen=True)
class FakeRun(Run):
    """Keeps the episodes that are fetched for a task."""

    fetched: list = dataclasses.field(default_factory=list)

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
    sampler: Any = None,
    num_classes: int = CLASSES,
    **methods: Any,
) -> FakeRun:
    """A run of these methods on the images; without a sampler, of single ones."""
    images = make_images()[: num_classes * MEMBERS]
    labels = (np.arange(len(images)) // MEMBERS).astype(np.int32)
    sampler = sampler or partial(data.minibatch, batch_size=4)
    stage = Stage.create(data.Dataset(images, labels), sampler)
    parts = {"model": FakeModel(**methods), "train": stage, "eval": stage}
    experiment: Any = SimpleNamespace(**parts, name="fake", config=None)
    return FakeRun(experiment, {}, step=3)


def make_few_shot_run(**methods: Any) -> FakeRun:
    """One of few-shot episodes, with two images of a class in the memory."""
    sampler = partial(data.few_shot, num_classes=2, num_support=2, num_queries=1)
    return make_run(sampler, **methods)


def halving_run(**methods: Any) -> FakeRun:
    """A reading has half of what asks, and samples 3/4 of it; a random one is of an image's."""

    def read_at_random(rng_key, memory):
        image = memory[jax.random.randint(rng_key, (), 0, len(memory))]
        return Images(image + 1.0, image + 2.0)

    fields = {
        "read": lambda rng_key, query, memory: Images(0.5 * query, 0.75 * query),
        "read_at_random": read_at_random,
        "memory_metrics": lambda memory, num_images: {},
    }
    return make_run(**(fields | methods))


def mean_error(images, others):
    return np.mean(np.abs(np.asarray(images, np.float64) - np.asarray(others, np.float64)))
