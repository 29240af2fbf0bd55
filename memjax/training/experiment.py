"""From a config to what the loop runs: data, sampler, model and optimizer."""

import dataclasses
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import flax.linen as nn
import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from memjax import data, models
from memjax.errors import UserError, check_at_least_one, check_one_of

BINARIZATIONS = ("none", "threshold", "static", "dynamic")
_BINARIZATION_SEED = 20170926  # of the static binarisation: part of the data, not of a run's seed

Gather = Callable[[data.ImageArrays, data.EpisodeIndices, chex.Numeric], data.Episode]


@dataclasses.dataclass(frozen=True)
class Stage:
    """Training's or evaluation's data, and how episodes are drawn from them.

    Attributes:
      arrays: the data set.
      draw: the sampler, which gives indices.
      gather: `(arrays, indices, epoch) -> Episode`.
      batch_size: queries in a global batch, the axis that is split over devices.
    """

    arrays: data.ImageArrays
    draw: data.Sampler
    gather: Gather
    batch_size: int


@dataclasses.dataclass(frozen=True)
class Experiment:
    """All that a config describes, built and checked."""

    config: ConfigDict
    model: nn.Module
    optimizer: optax.GradientTransformation
    train: Stage
    eval: Stage


def build(config: ConfigDict) -> Experiment:
    """Loads the data, builds the model and the optimizer, and checks that they fit each other.

    Raises:
      UserError: a field that no part of memjax knows, or a value that it can't take.
    """
    train = stage(config, config.dataset.train_split, config.episodes)
    evaluation = stage(config, config.dataset.eval_split, config.eval.episodes)
    model_fields = config.model.to_dict()
    model = models.build(
        model_fields.pop("name"), image_shape=train.arrays.images.shape[1:], **model_fields
    )
    return Experiment(config, model, _build_optimizer(config), train, evaluation)


def stage(config: ConfigDict, split: str, episodes: ConfigDict) -> Stage:
    """The data of `split`, and a sampler of `episodes`, a config of `data.SAMPLERS`' arguments."""
    dataset = data.load(config.dataset.name, split, config.data_dir or None)
    binarization = config.dataset.binarization
    if binarization not in BINARIZATIONS:
        raise UserError(
            f"dataset.binarization is {binarization!r}; it must be among {', '.join(BINARIZATIONS)}"
        )
    # Of one implementation, whatever JAX's default is: a run may go on under another one.
    images, rng_key = dataset.images, jax.random.key(_BINARIZATION_SEED, impl="threefry2x32")
    if binarization == "static":
        images = np.asarray(jax.jit(data.binarize)(rng_key, images, np.arange(len(images))))
    elif binarization == "threshold":
        images = np.where(images > 127, 255, 0).astype(np.uint8)
    arrays = data.ImageArrays.create(images, dataset.labels)
    dynamic_rng_key = rng_key if binarization == "dynamic" else None
    draw = _build_sampler(episodes)
    # Draws shapes only: finds out here, not within a compiled step, what does not fit.
    indices = jax.eval_shape(draw, jax.random.key(0), arrays)
    return Stage(
        arrays=arrays,
        draw=draw,
        gather=lambda arrays, indices, epoch: data.gather(arrays, indices, dynamic_rng_key, epoch),
        batch_size=indices.query.shape[0],
    )


def _build_sampler(episodes: ConfigDict) -> data.Sampler:
    fields = episodes.to_dict()
    check_one_of("episodes.name", fields.pop("name"), list(data.SAMPLERS))
    sampler = data.SAMPLERS[episodes.name]
    _check_fields(sampler, fields, f"episodes {episodes.name}", "rng_key", "data")
    return partial(sampler, **fields)


def _build_optimizer(config: ConfigDict) -> optax.GradientTransformation:
    """Any of optax's optimizers by name; 0 of the fields that are not its own means without."""
    fields: dict[str, Any] = config.optimizer.to_dict()
    name, clip_norm = fields.pop("name"), fields.pop("clip_norm")
    l2 = fields.pop("l2", 0.0)  # older runs have none
    make = getattr(optax, name, None)
    if not callable(make) or "learning_rate" not in inspect.signature(make).parameters:
        raise UserError(f"optimizer.name is {name!r}; it must be one of optax's, such as 'adam'")
    fields["learning_rate"] = _pop_schedule(fields, config.training.num_steps)
    _check_fields(make, fields, f"optimizer {name}")
    clip = optax.clip_by_global_norm(clip_norm) if clip_norm else optax.identity()
    if l2:
        clip = optax.chain(optax.add_decayed_weights(l2, _all_but_memory), clip)
    return optax.chain(clip, make(**fields))


def _pop_schedule(fields: dict[str, Any], num_steps: int) -> Any:
    """The learning rate, or its schedule; `decay_steps` 0 and `anneal_factor` 1 mean without."""
    learning_rate, decay_steps = fields.pop("learning_rate"), fields.pop("decay_steps")
    factor, every = fields.pop("anneal_factor", 1.0), fields.pop("anneal_every", 1)
    start = fields.pop("anneal_start", 0)
    if decay_steps and factor != 1.0:
        raise UserError("optimizer has decay_steps and anneal_factor, two schedules; give one")
    if decay_steps:
        return optax.cosine_decay_schedule(learning_rate, decay_steps)
    if factor == 1.0:
        return learning_rate
    if not 0.0 < factor < 1.0:
        raise UserError(f"optimizer.anneal_factor is {factor}; it must be above 0 and at most 1")
    check_at_least_one(**{"optimizer.anneal_every": every})
    if not 0 <= start < num_steps:
        raise UserError(
            f"optimizer.anneal_start is {start}; it must be below training.num_steps, {num_steps}, "
            "and not negative; optimizer.anneal_factor=1.0 trains without annealing"
        )
    return optax.exponential_decay(
        learning_rate, every, factor, transition_begin=start, staircase=True
    )


def _all_but_memory(params: Any) -> Any:
    """True for every parameter but those named `memory`, a pytree of booleans."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: getattr(path[-1], "key", None) != "memory", params
    )


def _check_fields(function: Callable, fields: dict[str, Any], what: str, *arguments: Any) -> None:
    try:
        inspect.signature(function).bind(*arguments, **fields)
    except TypeError as error:
        raise UserError(f"{what}: {error}") from error
