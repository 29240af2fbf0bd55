"""From a config to an experiment: the one place that knows what a config's words stand for."""

import dataclasses
import importlib
import inspect
import math
import pkgutil
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import optax
from ml_collections import ConfigDict

from memjax import data, models
from memjax.errors import UserError, check_at_least_one
from memjax.training.experiment import Experiment, Stage

Load = Callable[..., data.Dataset]


def build(config: ConfigDict, load: Load = data.load) -> Experiment:
    """Loads the data, builds the model and the optimizer, and checks that they fit each other.

    Models, samplers and optimizers are ours or optax's by their short names, or the user's as
    "package.module:Class"; so is a net that a model takes.

    Args:
      config: see `experiments.configs.default`.
      load: what loads a split; called as `data.load` is.

    Raises:
      UserError: a field that no part of memjax knows, or a value that it can't take.
    """
    optimizer = _build_optimizer(config)  # first, for data take time
    train = stage(config, config.dataset.train_split, config.episodes, load)
    evaluation = stage(config, config.dataset.eval_split, config.eval.episodes, load)
    fields, schedule = config.model.to_dict(), config.training.to_dict()
    schedule.pop("steps_per_call", None)  # earlier versions wrote it into config.json
    return Experiment(
        model=build_model(fields.pop("name"), train.arrays.images.shape[1:], **fields),
        optimizer=optimizer,
        train=train,
        eval=evaluation,
        seed=config.seed,
        num_eval_batches=config.eval.num_batches,
        init_from=config.init_from,
        config=config,
        **schedule,
    )


def stage(config: ConfigDict, split: str, episodes: ConfigDict, load: Load = data.load) -> Stage:
    """The data of `split`, and a sampler of `episodes`, a config of a sampler's arguments."""
    own = config.dataset
    dataset = load(
        own.name,
        split,
        config.data_dir or None,
        test_fraction=own.test_fraction,
        split_seed=own.split_seed,
    )
    fields = episodes.to_dict()
    ours = f"one of {', '.join(data.SAMPLERS)}, or"
    sampler = _find("episodes.name", fields.pop("name"), data.SAMPLERS.get, ours)
    _check_fields(sampler, fields, f"episodes {episodes.name}", "rng_key", "data")
    return Stage.create(dataset, partial(sampler, **fields), own.binarization)


def build_model(name: str, image_shape: Sequence[int], **fields: Any) -> nn.Module:
    """The model `name`, "file.Class" of memjax.models or "package.module:Class", with its fields.

    Raises:
      UserError: no such model, or a field that it does not have.
    """
    files = [m.name for m in pkgutil.iter_modules(models.__path__) if m.name != "contract"]
    ours = f"'file.Class' of memjax.models, with a file among {', '.join(files)}, or"
    model_class = _find("model.name", name, _our_model, ours)
    missing = models.missing_methods(model_class)
    if missing:
        raise UserError(
            f"model.name is {name!r}; it lacks {', '.join(missing)}: see memjax.models.Model"
        )
    kinds = {field.name: field.type for field in dataclasses.fields(model_class)}
    for field, value in fields.items():
        if isinstance(value, str) and kinds.get(field) == nn.Module | None:
            fields[field] = _find(f"model.{field}", value, lambda _: None, "")()
        elif isinstance(value, list):  # linen wants hashable fields; a config of JSON has lists
            fields[field] = tuple(value)
        _check_kind(name, field, kinds.get(field), fields[field])
    try:
        return model_class(image_shape=tuple(image_shape), **fields)
    except TypeError as error:
        raise UserError(f"model {name}: {error}") from error


def _our_model(name: str) -> Any:
    file, _, class_name = name.partition(".")
    known = any(m.name == file for m in pkgutil.iter_modules(models.__path__))
    module = importlib.import_module(f"{models.__name__}.{file}") if known else None
    own = getattr(module, class_name or " ", None)
    return own if isinstance(own, type) and issubclass(own, nn.Module) else None


def _find(field: str, name: str, find: Callable[[str], Any], ours: str) -> Any:
    """What `find` knows by `name`, or the user's "package.module:Name".

    Raises:
      UserError: neither; an error of the user's module stands in it.
    """
    module, colon, attribute = name.partition(":")
    if not colon:
        found = find(name)
        if found is None:
            raise UserError(f"{field} is {name!r}; it must be {ours} 'package.module:Name'")
        return found
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:  # whatever the user's module raises
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise UserError(f"{field} is {name!r}; it can't be imported: {reason}") from error


def _check_kind(model: str, name: str, kind: Any, value: Any) -> None:
    """Refuses words where numbers belong, and negative sizes; the rest is the model's to check."""
    if kind not in (int, Sequence[int]):
        return
    sizes = [value] if kind is int else value
    whole = isinstance(sizes, list | tuple) and all(type(size) is int for size in sizes)
    if not whole or any(size < 0 for size in sizes):
        wanted = "an integer" if kind is int else "integers, such as (128, 64),"
        raise UserError(f"model {model}: {name} is {value!r}; it must be {wanted} at least 0")


def _build_optimizer(config: ConfigDict) -> optax.GradientTransformation:
    """An optimizer by name; of the fields that are not its own, 0 or none means without."""
    fields: dict[str, Any] = config.optimizer.to_dict()
    name, clip_norm, l2 = fields.pop("name"), fields.pop("clip_norm", 0.0), fields.pop("l2", 0.0)
    memory_rate, learning_rate = fields.pop("memory_rate", 1.0), fields["learning_rate"]
    if not 0.0 < learning_rate < math.inf:
        raise UserError(
            f"optimizer.learning_rate is {learning_rate}; it must be above 0 and finite"
        )
    for field, value in (("clip_norm", clip_norm), ("l2", l2)):
        if not 0.0 <= value < math.inf:
            raise UserError(f"optimizer.{field} is {value}; it must be at least 0 and finite")
    make = _find("optimizer.name", name, _optax, "one of optax's, such as 'adam', or")
    fields["learning_rate"] = _pop_schedule(fields, config.training.num_steps)
    _check_fields(make, fields, f"optimizer {name}")
    clip = optax.clip_by_global_norm(clip_norm) if clip_norm else optax.identity()
    if l2:
        clip = optax.chain(optax.add_decayed_weights(l2, _all_but_memory), clip)
    update = optax.chain(clip, make(**fields))
    return update if memory_rate == 1.0 else optax.chain(update, _scale_memory(memory_rate))


def _optax(name: str) -> Any:
    make = getattr(optax, name, None)
    takes_rate = callable(make) and "learning_rate" in inspect.signature(make).parameters
    return make if takes_rate else None


def _pop_schedule(fields: dict[str, Any], num_steps: int) -> Any:
    """The learning rate, or its schedule; `decay_steps` 0 and `anneal_factor` 1 mean without."""
    learning_rate, decay_steps = fields.pop("learning_rate"), fields.pop("decay_steps", 0)
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
    return jax.tree.map(lambda is_memory: not is_memory, _is_memory(params))


def _scale_memory(rate: float) -> optax.GradientTransformation:
    """Multiplies the updates of parameters named `memory`: by an optimizer's rate, it is theirs."""
    if not 0.0 < rate < math.inf:
        raise UserError(f"optimizer.memory_rate is {rate}; it must be above 0 and finite")

    def mask(params: Any) -> Any:
        found = _is_memory(params)
        if not any(jax.tree.leaves(found)):
            raise UserError(
                f"optimizer.memory_rate is {rate}; it must be 1.0: "
                "the model has no parameter named memory"
            )
        return found

    return optax.masked(optax.scale(rate), mask)


def _is_memory(params: Any) -> Any:
    """True for parameters named `memory`, a pytree of booleans."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: getattr(path[-1], "key", None) == "memory", params
    )


def _check_fields(function: Callable, fields: dict[str, Any], what: str, *arguments: Any) -> None:
    try:
        inspect.signature(function).bind(*arguments, **fields)
    except TypeError as error:
        raise UserError(f"{what}: {error}") from error
