"""A step that gives NaN is named and not taken; a second run on a workdir is refused."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax import data, files
from memjax.errors import UserError
from memjax.training import build, init_state, metrics
from tests.conftest import assert_states_equal, train
from tests.training.test_loop import without_speed


@pytest.fixture
def bad_steps(tiny_config, monkeypatch):
    """Makes an image of step 3 NaN wherever it is asked for; of ten steps, which ask for it."""
    experiment = build(tiny_config)
    state = init_state(experiment)
    gather = data.gather

    @jax.jit
    @jax.vmap
    def draw(step):
        episode_rng_key, _ = jax.random.split(jax.random.fold_in(state.rng_key, step))
        return experiment.train.draw(episode_rng_key, experiment.train.arrays).query

    queries = np.asarray(draw(np.arange(10)))
    poisoned = queries[2].max()  # evaluation, of fewer images, asks for none of that number
    monkeypatch.setattr(data, "gather", lambda *arguments: _poison(poisoned, gather, *arguments))
    return [i + 1 for i, query in enumerate(queries) if poisoned in query]


def _poison(image, gather, arrays, indices, *arguments):
    episode = gather(arrays, indices, *arguments)
    poisoned = (indices.query == image) & (len(arrays.images) > image)
    query = jnp.where(poisoned[:, None, None, None], jnp.nan, episode.query)
    return dataclasses.replace(episode, query=query)


def test_a_bad_batch_stops_the_run_or_is_skipped(tiny_config, tmp_path, bad_steps):
    first = bad_steps[0]
    tiny_config.training.num_steps = 2 * (first // 2 + 2)
    assert first < tiny_config.training.num_steps
    with pytest.raises(UserError, match=f"^step {first} is not taken: its query is not finite"):
        train(tiny_config, tmp_path)
    assert all(entry["step"] < first for entry in metrics.read(tmp_path))
    newest = max(int(p.name) for p in (tmp_path / "checkpoints").iterdir())
    assert newest == first - 1

    tiny_config.training.skip_nonfinite = True
    state = train(tiny_config, tmp_path)
    assert int(state.step) == tiny_config.training.num_steps
    assert np.isfinite(jnp.concatenate([jnp.ravel(x) for x in jax.tree.leaves(state.params)])).all()
    entries = metrics.read(tmp_path)
    assert [entry["step"] for entry in entries] == list(
        range(2, tiny_config.training.num_steps + 1, 2)
    )
    assert all(0 < entry["nll"] < 100 for entry in entries)
    skipped = [json.loads(x) for x in (tmp_path / "skipped_steps.jsonl").read_text().splitlines()]
    expected = [step for step in bad_steps if step <= tiny_config.training.num_steps]
    assert skipped == [{"step": step, "not_finite": "query"} for step in expected]


@pytest.mark.slow
def test_a_stop_at_a_bad_batch_changes_nothing_in_the_end(tiny_config, tmp_path, bad_steps):
    tiny_config.training.num_steps = 2 * (bad_steps[0] // 2 + 2)
    with pytest.raises(UserError, match="is not taken"):
        train(tiny_config, tmp_path / "stopped")
    tiny_config.training.skip_nonfinite = True
    workdirs = [tmp_path / "stopped", tmp_path / "whole"]
    assert_states_equal(*(train(tiny_config, workdir) for workdir in workdirs))
    stopped, whole = (without_speed(metrics.read(workdir)) for workdir in workdirs)
    assert stopped == whole


def test_parameters_that_overflow_are_named(tiny_config, tmp_path):
    tiny_config.optimizer.name, tiny_config.optimizer.learning_rate = "sgd", 1e39  # inf in float32
    with pytest.raises(
        UserError, match=r"^step 1 is not taken: its state params image_decoder .* is no"
    ):
        train(tiny_config, tmp_path)


def test_where_all_steps_are_bad_skipping_ends(tiny_config, tmp_path):
    tiny_config.optimizer.name, tiny_config.optimizer.learning_rate = "sgd", 1e39  # inf in float32
    tiny_config.training.skip_nonfinite = True
    with pytest.raises(UserError, match="step 2: all steps since the last metrics were skipped"):
        train(tiny_config, tmp_path)


def test_a_second_run_on_a_workdir_is_refused(tiny_config, tmp_path):
    with files.lock(tmp_path / ".lock", ""):
        before = sorted(tmp_path.iterdir())
        with pytest.raises(UserError, match=f"^workdir {tmp_path} is in use by another run"):
            train(tiny_config, tmp_path)
        assert sorted(tmp_path.iterdir()) == before
    tiny_config.training.num_steps = 2
    tiny_config.training.eval_every = 2
    train(tiny_config, tmp_path)  # the lock has ended
