"""What a checkpoint of another switch or another structure is told to be."""

import dataclasses
import shutil
from contextlib import closing

import jax
import jax.numpy as jnp
import pytest

from experiments import cli
from memjax.errors import UserError
from memjax.evaluation import load_run
from memjax.training import build, checkpoints, init_state, processes
from memjax.training.checkpoints import Checkpoints
from tests.conftest import assert_states_equal, train
from tests.robustness.config import get_config
from tests.robustness.storage import break_file, contents
from tests.training.test_loop import lines, without_speed


@pytest.fixture(scope="module")
def like():
    return init_state(build(get_config()))


def save(workdir, *states):
    """A run's folder with these states as its checkpoints."""
    with closing(Checkpoints(workdir)) as saved:
        for state in states:
            saved.save(state)
    (workdir / "config.json").write_text(get_config().to_json())
    return workdir


def restore(workdir, like, read_only=False):
    with closing(Checkpoints(workdir, read_only)) as saved:
        return saved.restore(like)


def at(state, step, **fields):
    return dataclasses.replace(state, step=jnp.int32(step), **fields)


def assert_refused_and_nothing_moved(workdir, like, message):
    """By what loads a run, what resumes it, and on a command line."""
    before = contents(workdir)
    for read_only in (False, True):
        with pytest.raises(UserError, match=message) as error:
            restore(workdir, like, read_only)
        assert "\n" not in str(error.value)
    with pytest.raises(SystemExit) as ended, cli.exit_on_user_error():
        restore(workdir, like)
    assert ended.value.code == 2
    assert contents(workdir) == before


@pytest.mark.parametrize("implementation", ["rbg", "unsafe_rbg"])
def test_a_key_keeps_its_implementation_under_another_default(like, tmp_path, implementation):
    state = at(like, 3, rng_key=jax.random.key(7, impl=implementation))
    restored = restore(save(tmp_path, state), like)
    assert jax.random.key_impl(restored.rng_key) == implementation
    assert_states_equal(state, restored)
    assert load_run(tmp_path).step == 3
    with jax.default_prng_impl(implementation):  # and the other way
        restored = restore(save(tmp_path / "other", at(like, 3)), state)
    assert jax.random.key_impl(restored.rng_key) == "threefry2x32"


@pytest.mark.slow
def test_a_run_goes_on_under_another_default_as_if_never_stopped(tmp_path):
    config = get_config()
    config.dataset.binarization = "dynamic"
    config.training.num_steps, config.training.checkpoint_every = 4, 2
    with jax.default_prng_impl("rbg"):
        expected = train(config, tmp_path)
    metrics = lines(tmp_path)
    shutil.rmtree(tmp_path / "checkpoints/4")
    assert_states_equal(expected, train(config, tmp_path))
    assert without_speed(lines(tmp_path)) == without_speed(metrics)


def test_processes_of_another_default_are_refused_before_they_wait(like, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(UserError, match="is of JAX_DEFAULT_PRNG_IMPL=rbg, this process's are of t"):
        processes.share(at(like, 3, rng_key=jax.random.key(7, impl="rbg")))


def test_another_precision_is_named(like, tmp_path, float64):
    wide = jax.tree.map(lambda x: x.astype(float) if x.dtype == jnp.float32 else x, like)
    message = r"checkpoint 4 in \S+ was saved with JAX_ENABLE_X64={}, .*: its params\.\S+ is {}\["
    save(tmp_path / "wide", at(wide, 4))
    save(tmp_path / "narrow", at(like, 4))
    assert_refused_and_nothing_moved(tmp_path / "narrow", wide, message.format(0, "float32"))
    assert_states_equal(restore(tmp_path / "wide", wide), at(wide, 4))
    with jax.enable_x64(False):
        assert_refused_and_nothing_moved(tmp_path / "wide", like, message.format(1, "float64"))
        for go_on in (load_run, lambda workdir: train(get_config(), workdir)):
            with pytest.raises(UserError, match=message.format(1, "float64")):
                go_on(tmp_path / "wide")


def decoder_bias(state, change):
    """The state with `change` made to the parameters of one layer."""
    layer = dict(state.params["image_decoder"]["MLP_0"])
    change(layer)
    params = {**state.params, "image_decoder": {**state.params["image_decoder"], "MLP_0": layer}}
    return dataclasses.replace(state, params=params)


_OTHER_STRUCTURES = {
    r"image_decoder\.MLP_0\.bias is float32\[9\], here it is float32\[8\]": lambda layer: (
        layer.update(bias=jnp.zeros(9))
    ),
    r"image_decoder\.MLP_0\.bias is missing, here it is float32\[8\]": lambda layer: layer.pop(
        "bias"
    ),
    r"image_decoder\.MLP_0\.gain is float32\[2\], here it is missing": lambda layer: layer.update(
        gain=jnp.zeros(2)
    ),
    r"image_decoder\.MLP_0\.bias is int32\[8\], here it is float32\[8\]": lambda layer: (
        layer.update(bias=jnp.zeros(8, jnp.int32))
    ),
}


@pytest.mark.parametrize("message", _OTHER_STRUCTURES)
def test_another_structure_is_told_apart_from_damage(like, tmp_path, message):
    saved = decoder_bias(at(like, 4), _OTHER_STRUCTURES[message])
    workdir = save(tmp_path, saved)
    assert_refused_and_nothing_moved(
        workdir, like, "checkpoint 4 in .* is intact, but .*" + message
    )


def test_damage_is_found_whatever_the_structure(like, tmp_path):
    """An older one of another structure is not reached by damage: it is what is told."""
    other = decoder_bias(like, lambda layer: layer.pop("bias"))
    workdir = save(tmp_path, at(other, 2), at(like, 4))
    for path in (workdir / "checkpoints/4").rglob("*"):
        if path.is_file():
            break_file(path, "emptied", None)
    assert_refused_and_nothing_moved(workdir, like, "checkpoint 2 in .* is intact, but")


def test_a_leaf_that_is_lost_is_damage(like, tmp_path, monkeypatch):
    """As where the checkpoint's own description is damaged: not another structure."""
    workdir = save(tmp_path, at(like, 2), at(like, 4))
    by_path = checkpoints.by_path

    def lose(tree):
        leaves = by_path(tree)
        if isinstance(tree, dict) and leaves["step"] == 4:
            del leaves["params.image_decoder.MLP_0.bias"]
        return leaves

    monkeypatch.setattr(checkpoints, "by_path", lose)
    assert int(restore(workdir, like).step) == 2
    assert (workdir / "unreadable_checkpoints/4").is_dir()
