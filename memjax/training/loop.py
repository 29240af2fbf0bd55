"""The training loop: one for every model and config."""

import dataclasses
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from memjax import devices
from memjax.errors import UserError
from memjax.training import processes
from memjax.training import step as step_lib
from memjax.training.checkpoints import Checkpoints, start_from
from memjax.training.experiment import Experiment
from memjax.training.finite import make_advance
from memjax.training.metrics import MetricWriter
from memjax.training.step import TrainState
from memjax.training.workdir import check_workdir, open_workdir

Callback = Callable[[int, dict[str, float], TrainState], None]

_BLOCK_SECONDS = 1.0  # of a compiled call, about: progress is shown after each, and stops are seen

_LOG = logging.getLogger("memjax")


def train(
    experiment: Experiment, workdir: str | Path, callbacks: Sequence[Callback] = ()
) -> TrainState:
    """Trains an experiment, or goes on where an earlier call with it stopped.

    `workdir` then holds `config.json`, `metrics.jsonl`, TensorBoard events and `checkpoints/`.
    SIGTERM and Ctrl-C save a checkpoint and return early.

    Args:
      experiment: see `build` for one of a config.
      workdir: the run's folder, of this run alone.
      callbacks: each is called as `(step, metrics, state)` wherever metrics are written: of the
        first process, the metrics by their names in `metrics.jsonl`. One that raises ends training,
        after a checkpoint is saved.

    Returns:
      The state after the last step taken.

    Raises:
      UserError: an experiment that does not fit the devices or the workdir.
    """
    step_lib.check_batch_size(experiment.train, "episodes")
    step_lib.check_batch_size(experiment.eval, "eval.episodes")
    if processes.is_first():
        check_workdir(workdir, experiment.describe())
        _LOG.info("%s, in %s", _describe(experiment), workdir)
    state = step_lib.init_state(experiment)
    if not processes.is_first():
        nowhere = processes.Nowhere()
        return _run(experiment, processes.share(state), nowhere, nowhere, ())
    with (
        open_workdir(workdir, experiment.describe()) as path,
        closing(Checkpoints(path)) as checkpoints,
    ):
        saved = checkpoints.restore(like=state)
        if saved is None and experiment.init_from:
            state = start_from(experiment.init_from, state)
        state = processes.share(saved or state)
        with closing(MetricWriter(path, int(state.step), experiment.num_steps)) as writer:
            return _run(experiment, state, checkpoints, writer, callbacks)


def _run(
    experiment: Experiment,
    state: TrainState,
    checkpoints: Checkpoints | processes.Nowhere,
    writer: MetricWriter | processes.Nowhere,
    callbacks: Sequence[Callback],
) -> TrainState:
    num_steps, start = experiment.num_steps, int(state.step)
    if start >= num_steps:
        _LOG.info("nothing to do: step %d of %d", start, num_steps)
        return state
    writer.begin(state)
    in_loop = not step_lib.loops_are_slow(experiment, state)
    state, arrays = step_lib.replicate((state, experiment.train.arrays))
    advance = make_advance(experiment, in_loop, state, arrays, writer)
    evaluate = _make_evaluation(experiment, jax.random.key_impl(state.rng_key))
    looks = (experiment.log_every, experiment.checkpoint_every)
    with _stop_on_signal() as stop_requested:
        interval_start, interval_time = start, time.perf_counter()
        step, length = start, 1  # of a block, in steps
        while step < num_steps:
            goal = min(num_steps, step + length, *(step - step % n + n for n in looks))
            block_time = time.perf_counter()
            state, error = advance(state, goal)
            if error is not None:
                checkpoints.save(state)
                raise error
            seconds = (time.perf_counter() - block_time) / (goal - step)
            length = max(1, min(2 * length, int(_BLOCK_SECONDS / seconds)))
            stop, length = processes.agree(stop_requested(), length)
            step, last = goal, goal == num_steps
            writer.show(step)
            if step % experiment.log_every == 0 or last:
                metrics, state = _take_metrics(state, step, experiment.log_every, writer)
                seconds = time.perf_counter() - interval_time
                metrics["steps_per_second"] = (step - interval_start) / seconds
                if step % experiment.eval_every == 0 or last:
                    writer.tell("evaluating")
                    metrics |= evaluate(state)
                writer.write(step, metrics)
                _call_back(callbacks, step, metrics, state, checkpoints)
                interval_start, interval_time = step, time.perf_counter()
            if step % experiment.checkpoint_every == 0 or last or stop:
                checkpoints.save(state)
            if stop and not last:
                _LOG.warning("stopped at step %d; run the same command to resume", step)
                break
    return state


def _describe(experiment: Experiment) -> str:
    images = experiment.train.arrays.images
    shape = " x ".join(map(str, images.shape[1:]))
    return f"{experiment.name}: {len(images):,} images of {shape}, on {devices.describe()}"


def _take_metrics(
    state: TrainState, step: int, log_every: int, writer: MetricWriter | processes.Nowhere
) -> tuple[dict[str, float], TrainState]:
    """The means of the metrics of this interval, and the state for the next one.

    Raises:
      UserError: there were none, for all steps were skipped.
    """
    first = step - (step - 1) % log_every
    num_taken = step + 1 - first - writer.count_skipped(first, step)
    if num_taken < 1:
        raise UserError(f"step {step}: all steps since the last metrics were skipped")
    sums = jax.device_get(state.metric_sums)
    metrics = {name: float(value) / num_taken for name, value in sums.items()}
    if step % log_every:  # the run's end; a longer run's next metrics need the sums
        return metrics, state
    zeros = jax.tree.map(jnp.zeros_like, sums)
    return metrics, dataclasses.replace(state, metric_sums=step_lib.replicate(zeros))


def _make_evaluation(
    experiment: Experiment, key_implementation: Any
) -> Callable[[TrainState], dict[str, float]]:
    """A function from a state to its `eval/` metrics: the same episodes at every call."""
    call = step_lib.make_eval_call(experiment)
    seed_rng_key = jax.random.fold_in(jax.random.key(experiment.seed, impl=key_implementation), 1)
    rng_keys = jax.random.split(seed_rng_key, experiment.num_eval_batches)
    arrays = step_lib.replicate(experiment.eval.arrays)
    indices = step_lib.device_indices()

    def evaluate(state: TrainState) -> dict[str, float]:
        batches = [call(state.eval_variables, rng_key, arrays, indices) for rng_key in rng_keys]
        means = jax.tree.map(lambda *leaves: float(jnp.mean(jnp.stack(leaves))), *batches)
        return {f"eval/{name}": value for name, value in means.items()}

    return evaluate


def _call_back(
    callbacks: Sequence[Callback],
    step: int,
    metrics: dict[str, float],
    state: TrainState,
    checkpoints: Checkpoints | processes.Nowhere,
) -> None:
    try:
        for callback in callbacks:
            callback(step, dict(metrics), state)
    except BaseException:
        checkpoints.save(state)
        raise


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
        os.write(2, b"\nstopping after these steps; again to abort\n")  # safe in a handler

    for number in signals:
        signal.signal(number, request)
    try:
        yield requested.is_set
    finally:
        restore_handlers()
