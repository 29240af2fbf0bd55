"""The training loop: one for every model and config."""

import dataclasses
import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from memjax.errors import UserError, check_at_least_one
from memjax.training import processes
from memjax.training import step as step_lib
from memjax.training.checkpoints import Checkpoints
from memjax.training.experiment import Experiment, build
from memjax.training.finite import make_advance
from memjax.training.metrics import MetricWriter
from memjax.training.step import TrainState
from memjax.training.workdir import open_workdir

_LOG = logging.getLogger("memjax")


def train_and_evaluate(config: ConfigDict, workdir: str | Path) -> TrainState:
    """Trains what `config` describes, or goes on where an earlier call with it stopped.

    `workdir` then holds `config.json`, `metrics.jsonl`, TensorBoard events and `checkpoints/`.
    SIGTERM and Ctrl-C save a checkpoint and return early.

    Returns:
      The state after the last step taken.

    Raises:
      UserError: a config that does not fit itself, its data, the devices or the workdir.
    """
    _check(config)
    experiment = build(config)
    step_lib.check_batch_size(experiment.train, "episodes")
    step_lib.check_batch_size(experiment.eval, "eval.episodes")
    state = step_lib.init_state(experiment)
    if not processes.is_first():
        nowhere = processes.Nowhere()
        return _run(experiment, processes.share(state), nowhere, nowhere)
    with open_workdir(workdir, config) as path, closing(Checkpoints(path)) as checkpoints:
        state = processes.share(checkpoints.restore(like=state) or state)
        with closing(MetricWriter(path, int(state.step), config.training.num_steps)) as writer:
            return _run(experiment, state, checkpoints, writer)


def _run(
    experiment: Experiment,
    state: TrainState,
    checkpoints: Checkpoints | processes.Nowhere,
    writer: MetricWriter | processes.Nowhere,
) -> TrainState:
    config, start = experiment.config.training, int(state.step)
    if start >= config.num_steps:
        _LOG.info("nothing to do: step %d of %d", start, config.num_steps)
        return state
    in_loop = not step_lib.loops_are_slow(experiment, state)
    steps_per_call = _steps_per_call(config, in_loop)
    state, arrays = step_lib.replicate((state, experiment.train.arrays))
    advance = make_advance(experiment, in_loop, state, arrays, writer)
    evaluate = _make_evaluation(experiment, jax.random.key_impl(state.rng_key))
    with _stop_on_signal() as stop_requested:
        interval_start, interval_time = start, time.perf_counter()
        first_stop = start - start % steps_per_call + steps_per_call
        for step in range(first_stop, config.num_steps + 1, steps_per_call):
            state, error = advance(state, step)
            if error is not None:
                checkpoints.save(state)
                raise error
            stop, last = processes.any_of(stop_requested()), step == config.num_steps
            if step % config.log_every == 0 or last:
                first = step - (step - 1) % config.log_every
                num_taken = step + 1 - first - writer.count_skipped(first, step)
                metrics, emptied = _take_metrics(state, num_taken)
                if step % config.log_every == 0:  # else a longer run's next metrics need the sums
                    state = emptied
                seconds = time.perf_counter() - interval_time
                metrics["steps_per_second"] = (step - interval_start) / seconds
                if step % config.eval_every == 0 or last:
                    metrics |= evaluate(state)
                writer.write(step, metrics)
                interval_start, interval_time = step, time.perf_counter()
            if step % config.checkpoint_every == 0 or last or stop:
                checkpoints.save(state)
            if stop and not last:
                _LOG.warning("stopped at step %d; run the same command to resume", step)
                break
    return state


def _take_metrics(state: TrainState, num_steps: int) -> tuple[dict[str, float], TrainState]:
    """The means of the metrics over the last `num_steps`, and the state with sums of zero.

    Raises:
      UserError: there were none, for all of them were skipped.
    """
    if num_steps < 1:
        raise UserError(f"step {int(state.step)}: all steps since the last metrics were skipped")
    sums = jax.device_get(state.metric_sums)
    metrics = {name: float(value) / num_steps for name, value in sums.items()}
    zeros = jax.tree.map(jnp.zeros_like, sums)
    return metrics, dataclasses.replace(state, metric_sums=step_lib.replicate(zeros))


def _make_evaluation(
    experiment: Experiment, key_implementation: Any
) -> Callable[[TrainState], dict[str, float]]:
    """A function from a state to its `eval/` metrics: the same episodes at every call."""
    config = experiment.config
    call = step_lib.make_eval_call(experiment)
    seed_rng_key = jax.random.fold_in(jax.random.key(config.seed, impl=key_implementation), 1)
    rng_keys = jax.random.split(seed_rng_key, config.eval.num_batches)
    arrays = step_lib.replicate(experiment.eval.arrays)
    devices = step_lib.device_indices()

    def evaluate(state: TrainState) -> dict[str, float]:
        batches = [call(state.eval_variables, rng_key, arrays, devices) for rng_key in rng_keys]
        means = jax.tree.map(lambda *leaves: float(jnp.mean(jnp.stack(leaves))), *batches)
        return {f"eval/{name}": value for name, value in means.items()}

    return evaluate


def _steps_per_call(config: ConfigDict, in_loop: bool) -> int:
    """As many as fit between two looks at the state; one where XLA loops are slow."""
    if config.steps_per_call:
        return config.steps_per_call
    if not in_loop:
        return 1
    return math.gcd(config.log_every, config.checkpoint_every, config.num_steps)


def _check(config: ConfigDict) -> None:
    if not 0 <= config.seed < 2**32:
        raise UserError(f"seed is {config.seed}; it must be at least 0 and below 2**32")
    training = config.training
    counts = ("num_steps", "log_every", "eval_every", "checkpoint_every")
    check_at_least_one(**{f"training.{field}": training[field] for field in counts})
    if training.eval_every % training.log_every:
        raise UserError(
            f"training.eval_every is {training.eval_every}; "
            f"it must be a multiple of training.log_every, {training.log_every}"
        )
    if training.steps_per_call < 0:
        raise UserError("training.steps_per_call must be 0 (automatic) or more")
    for field in ("num_steps", "log_every", "checkpoint_every"):
        if training.steps_per_call and training[field] % training.steps_per_call:
            raise UserError(
                f"training.steps_per_call is {training.steps_per_call}; "
                f"it must divide training.{field}, {training[field]}"
            )


@contextmanager
def _stop_on_signal() -> Iterator[Callable[[], bool]]:
    """Turns the first SIGTERM or Ctrl-C into a request; a second one acts as it always does."""
    requested = threading.Event()
    signals = (signal.SIGTERM, signal.SIGINT)
    if threading.current_thread() is not threading.main_thread():
        yield requested.is_set  # only the main thread may handle signals
        return
    previous = {number: signal.getsignal(number) for number in signals}

    def restore_handlers() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def request(*_: object) -> None:
        requested.set()
        restore_handlers()

    for number in signals:
        signal.signal(number, request)
    try:
        yield requested.is_set
    finally:
        restore_handlers()
