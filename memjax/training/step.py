"""The compiled part of training: many steps, on all devices, in one call."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from memjax import data
from memjax.errors import UserError
from memjax.memory.states import state
from memjax.training.experiment import Experiment, Stage
from memjax.training.objective import AXIS, Keys, objective


@state
class TrainState:
    """What the next step needs, and all that a checkpoint holds.

    Attributes:
      step: int32 scalar, steps taken.
      rng_key: the run's key; step t draws from `fold_in(rng_key, t)`.
      params: the model's parameters.
      model_state: the model's other variable collections, such as batch statistics; often empty.
      opt_state: optax's state.
      ema_params: running average of `params`; None without.
      metric_sums: sums of the metrics over the steps since they were last written.
    """

    step: chex.Array
    rng_key: chex.PRNGKey
    params: Any
    model_state: dict[str, Any]
    opt_state: optax.OptState
    ema_params: Any
    metric_sums: dict[str, chex.Array]

    @property
    def eval_variables(self) -> dict[str, Any]:
        """The model's variables as evaluation uses them: the averaged parameters if there are."""
        params = self.params if self.ema_params is None else self.ema_params
        return {"params": params, **self.model_state}


def init_state(experiment: Experiment) -> TrainState:
    """The state before the first step; the same on any number of devices."""
    init_rng_key, rng_key = jax.random.split(jax.random.key(experiment.seed))
    stage, model = experiment.train, experiment.model

    def one_query(model: Any, rng_key: chex.PRNGKey, query: chex.Array, support: Any) -> Any:
        return model(rng_key, query, model.write(rng_key, support), train=False)

    @jax.jit
    def init(init_rng_key: chex.PRNGKey, arrays: data.ImageArrays) -> Any:
        episode = stage.gather(arrays, stage.draw(init_rng_key, arrays))
        query, support = episode.query[0], episode.support
        if episode.is_its_own_support:
            query, support = query[0], query
        return model.init(init_rng_key, init_rng_key, query, support, method=one_query)

    def metrics_of(variables: Any, rng_key: chex.PRNGKey, arrays: data.ImageArrays) -> Any:
        episode = stage.gather(arrays, stage.draw(rng_key, arrays))
        rng_keys = Keys(rng_key, jax.random.split(rng_key, len(episode.query)))
        return objective(model, variables, rng_keys, episode, train=False)[1][0]

    variables = init(init_rng_key, stage.arrays)
    metrics = jax.eval_shape(metrics_of, variables, rng_key, stage.arrays)
    metric_sums = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), metrics)
    model_state = {name: value for name, value in variables.items() if name != "params"}
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        rng_key=rng_key,
        params=params,
        model_state=model_state,
        opt_state=experiment.optimizer.init(params),
        ema_params=params if experiment.ema_decay else None,
        metric_sums=metric_sums,
    )


def make_train_call(
    experiment: Experiment, in_loop: bool = True, stop_where_bad: bool = False
) -> Any:
    """`(state, stop, arrays, device_indices) -> (state, finite)`; compiled for all devices.

    Takes steps up to step `stop`, or only one if not `in_loop`. Program and result do not depend on
    how many steps a call takes. `finite` says whether all numbers of the state are; once a number
    is NaN it stays NaN. With `stop_where_bad` the first bad step is the last.
    """

    def train_call(
        state: TrainState, stop: chex.Array, arrays: data.ImageArrays, device_index: chex.Array
    ) -> tuple[TrainState, chex.Array]:
        def step(state: TrainState) -> TrainState:
            return train_step(experiment, state, arrays, device_index)

        def goes_on(state: TrainState) -> chex.Array:
            below = state.step < stop
            return below & _all_finite(state) if stop_where_bad else below

        state = jax.lax.while_loop(goes_on, step, state) if in_loop else step(state)
        return state, _all_finite(state)

    return _pmap(train_call, num_replicated=3)


def make_diagnosis_call(experiment: Experiment) -> Any:
    """`(state, arrays, device_indices) -> finite`: what the next step computes, in its order.

    `finite` says of each array whether all its numbers are: lists of pytrees, first the batch's.
    """

    def diagnosis_call(state: TrainState, arrays: data.ImageArrays, device_index: chex.Array):
        episode, gradients, metrics, _ = _gradients(experiment, state, arrays, device_index)
        batch = {"query": episode.query, "support": episode.support}
        after = dataclasses.replace(
            train_step(experiment, state, arrays, device_index), metric_sums={}
        )
        stages = [batch, {"metric": metrics}, {"gradient": gradients}, {"state": after}]
        finite = jax.tree.map(lambda leaf: _all_finite(leaf).astype(jnp.float32), stages)
        return _mean_over_devices(finite)

    return _pmap(diagnosis_call, num_replicated=2)


def make_eval_call(experiment: Experiment) -> Any:
    """`(variables, rng_key, arrays, device_indices) -> metrics` of one global batch."""
    stage, model = experiment.eval, experiment.model

    def eval_call(variables, rng_key, arrays, device_index):
        episode, rng_keys = _device_episode(stage, rng_key, arrays, 0, device_index)
        _, (metrics, _) = objective(model, variables, rng_keys, episode, train=False)
        return _mean_over_devices(metrics)

    return _pmap(eval_call, num_replicated=3)


def loops_are_slow(experiment: Experiment, state: TrainState) -> bool:
    """Whether steps should be calls of their own: XLA's CPU backend convolves slowly in a loop."""
    if jax.default_backend() != "cpu":
        return False
    call = make_train_call(experiment, in_loop=False)
    jaxpr = jax.make_jaxpr(call)(state, 0, experiment.train.arrays, device_indices())
    return "conv_general_dilated" in str(jaxpr)


def replicate(tree: Any) -> Any:
    """Puts a copy of every leaf on each local device, where `_pmap` expects it."""
    mesh = Mesh(np.array(jax.local_devices()), (AXIS,))
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def set_step(state: TrainState, step: int) -> TrainState:
    """The replicated state, at another step."""
    return dataclasses.replace(state, step=replicate(jnp.array(step, jnp.int32)))


def device_indices() -> np.ndarray:
    """The places of this process's devices among all: int32 `[local devices]`."""
    return jax.process_index() * jax.local_device_count() + np.arange(
        jax.local_device_count(), dtype=np.int32
    )


def check_batch_size(stage: Stage, field: str) -> None:
    """Refuses a global batch that the devices can't share equally."""
    if stage.batch_size % jax.device_count():
        raise UserError(
            f"{field} makes a batch of {stage.batch_size}; "
            f"it must be a multiple of the {jax.device_count()} devices"
        )


def _pmap(function: Callable, num_replicated: int) -> Any:
    in_axes = (None,) * num_replicated + (0,)
    return jax.pmap(function, axis_name=AXIS, in_axes=in_axes, out_axes=None)


def _mean_over_devices(tree: Any) -> Any:
    # XLA copies all gradients even if there is no other device to reduce with.
    return jax.lax.pmean(tree, AXIS) if jax.device_count() > 1 else tree


def train_step(
    experiment: Experiment, state: TrainState, arrays: data.ImageArrays, device_index: chex.Array
) -> TrainState:
    """One step on one of the devices, whose index is a scalar."""
    _, gradients, metrics, model_state = _gradients(experiment, state, arrays, device_index)
    updates, opt_state = experiment.optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    ema_params = state.ema_params
    if ema_params is not None:
        ema_decay = experiment.ema_decay
        ema_params = optax.incremental_update(params, ema_params, 1.0 - ema_decay)
    return dataclasses.replace(
        state,
        step=state.step + 1,
        params=params,
        model_state=model_state,
        opt_state=opt_state,
        ema_params=ema_params,
        metric_sums=jax.tree.map(jnp.add, state.metric_sums, metrics),
    )


def _gradients(
    experiment: Experiment, state: TrainState, arrays: data.ImageArrays, device_index: chex.Array
) -> tuple[data.Episode, Any, dict[str, chex.Array], dict[str, Any]]:
    """The step's episode on this device; means over the global batch: gradients and the rest."""
    stage = experiment.train
    epoch = state.step * stage.batch_size // len(arrays.images)
    rng_key = jax.random.fold_in(state.rng_key, state.step)
    episode, rng_keys = _device_episode(stage, rng_key, arrays, epoch, device_index)

    def loss(params: Any) -> tuple[chex.Array, Any]:
        variables = {"params": params, **state.model_state}
        value, aux = objective(experiment.model, variables, rng_keys, episode, train=True)
        return -value, aux

    gradients, aux = jax.grad(loss, has_aux=True)(state.params)
    # Means over the devices: equal shares make these the means over the global batch.
    gradients, (metrics, model_state) = _mean_over_devices((gradients, aux))
    return episode, gradients, metrics, model_state


def _all_finite(tree: Any) -> chex.Array:
    """Whether all floating-point numbers of a pytree are finite."""
    floats = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]
    return jnp.all(jnp.array([True, *(jnp.all(jnp.isfinite(x)) for x in floats)]))


def _device_episode(
    stage: Stage,
    rng_key: chex.PRNGKey,
    arrays: data.ImageArrays,
    epoch: chex.Numeric,
    device_index: chex.Array,
) -> tuple[data.Episode, Keys]:
    """This device's share of the global batch, and the keys for it.

    Every device draws the same global indices and keys, so the result does not depend on how many
    devices there are.
    """
    episode_rng_key, sample_rng_key, write_rng_key = jax.random.split(rng_key, 3)
    indices = stage.draw(episode_rng_key, arrays)
    share = stage.batch_size // jax.device_count()

    def slice_share(values: Any) -> Any:
        slice_leaf = partial(jax.lax.dynamic_slice_in_dim, slice_size=share)
        return jax.tree.map(lambda leaf: slice_leaf(leaf, device_index * share), values)

    rng_keys = slice_share(jax.random.split(sample_rng_key, stage.batch_size))
    indices = dataclasses.replace(
        indices,
        query=slice_share(indices.query),
        query_addresses=slice_share(indices.query_addresses),
    )
    return stage.gather(arrays, indices, epoch), Keys(write_rng_key, rng_keys)
