"""The result depends on the seed and the global batch, not on how many devices run it."""

import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.conftest import make_vma_config, simulated_devices, train
from tests.experiments import tiny_kanerva, tiny_mem_vae

_ROOT = Path(__file__).parents[2]
_TRAIN = (
    "import sys; from tests.training import test_devices; test_devices.train_all(*sys.argv[1:])"
)


class Normalized(nn.Module):
    """A model with batch statistics, which must be those of the global batch."""

    image_shape: tuple[int, ...]
    batch_axes: tuple[str, ...] = ()

    def write(self, rng_key, support):
        return None

    def log_weights(self, rng_key, query, memory, num_samples):
        raise NotImplementedError

    generate = explain = log_weights

    @nn.compact
    def __call__(self, rng_key, query, memory, *, train):
        hidden = nn.Dense(8)(query.reshape(-1))
        axes = self.batch_axes if train else None
        hidden = nn.BatchNorm(use_running_average=not train, axis_name=axes)(hidden)
        objective = -jnp.mean(jnp.square(nn.Dense(1)(nn.tanh(hidden)) - 3.0 * query.mean()))
        return objective, {"nll": -objective}


def train_all(workdir, *models):
    """Trains tiny models on the devices of this process, and saves their parameters as .npz."""
    config = make_vma_config()
    config.optimizer = {"name": "sgd", "learning_rate": 1e-3, "clip_norm": 0.0, "decay_steps": 0}
    config.training.num_steps = 20
    config.training.log_every = 10
    config.training.eval_every = config.training.checkpoint_every = 20
    for model in models:
        if model == "kanerva":
            tiny = tiny_kanerva.get_config()
            config.episodes, config.eval.episodes = tiny.episodes, tiny.eval.episodes
            config.model = tiny.model
        if model == "mem_vae":
            config.model = tiny_mem_vae.get_config().model
        if model == "normalized":
            config.model = {"name": "tests.training.test_devices:Normalized"}
        state = train(config, f"{workdir}/{model}")
        leaves, _ = jax.tree_util.tree_flatten_with_path((state.params, state.model_state))
        path = f"{workdir}/{model}/params.npz"
        np.savez(path, **{jax.tree_util.keystr(k): v for k, v in leaves})


def _train(workdir, num_devices, *models):
    environment = simulated_devices(num_devices) | {"PYTHONPATH": str(_ROOT)}
    command = [sys.executable, "-c", _TRAIN, str(workdir), *models]
    return subprocess.run(
        command, env=environment, cwd=_ROOT, capture_output=True, text=True, check=False
    )


def _load(workdir):
    with np.load(workdir / "params.npz") as file:
        return {name: file[name] for name in file.files}


@pytest.mark.parametrize(
    "models",
    [
        ("normalized",),
        pytest.param(("vma", "mem_vae", "kanerva"), marks=pytest.mark.slow),
    ],
)
def test_one_device_and_eight_give_the_same_parameters(tmp_path, models):
    if jax.default_backend() != "cpu" or jax.device_count() > 1:
        pytest.skip("this process is the one device, and the eight are a CPU's")
    train_all(tmp_path / "1", *models)
    finished = _train(tmp_path / "8", 8, *models)
    assert finished.returncode == 0, finished.stderr[-3000:]
    for model in models:
        one, eight = (_load(tmp_path / name / model) for name in ("1", "8"))
        assert one.keys() == eight.keys()
        for name, value in one.items():
            np.testing.assert_allclose(eight[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_a_batch_that_does_not_divide_is_refused(tmp_path):
    finished = _train(tmp_path, 3, "vma")
    assert "episodes makes a batch of 8; it must be a multiple of the 3 devices" in finished.stderr
    assert not (tmp_path / "vma").exists()
