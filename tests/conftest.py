import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from experiments.configs import default
from memjax import training
from tests.robustness import config as smallest

# Most tests are of XLA's own convolutions; `test_onednn` asks for the others.
os.environ.setdefault("MEMJAX_ONEDNN", "0")


@pytest.fixture
def tiny_config() -> ConfigDict:
    """A VAE of digits: the least that trains."""
    return smallest.get_config()


@pytest.fixture
def strict_ranks():
    """No silent broadcasting of arrays with different numbers of axes."""
    with jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture
def float64():
    """Arrays of 64 bits."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(autouse=True, scope="module")
def _few_programs():
    """Frees compiled programs: past 65,530 memory maps of a process XLA crashes on Linux."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > 45_000:
        jax.clear_caches()


def slow(*values):
    """A case of a parametrized test that is slow."""
    return pytest.param(*values, marks=pytest.mark.slow)


def train(config, workdir, **options):
    """Trains what a config describes."""
    return training.train(training.build(config), workdir, **options)


def make_vma_config() -> ConfigDict:
    """A VMA that recalls digits: seconds to compile, milliseconds a step."""
    config = default.get_config()
    config.episodes = ConfigDict({"name": "recall", "num_slots": 16, "batch_size": 8})
    config.eval.episodes = ConfigDict({"name": "recall", "num_slots": 16, "batch_size": 8})
    config.eval.num_batches = 2
    config.model = ConfigDict(
        {"name": "vma.VMA", "hidden_sizes": (16, 8), "latent_size": 4, "embedding_size": 8}
    )
    config.training.num_steps = 8
    config.training.log_every = 2
    config.training.eval_every = 4
    config.training.checkpoint_every = 4
    return config


def make_kanerva_config() -> ConfigDict:
    """A Kanerva Machine of digits, as small."""
    config = make_vma_config()
    episodes = {"name": "unstructured", "num_episodes": 8, "episode_length": 4}
    config.episodes = config.eval.episodes = episodes
    config.model = {
        "name": "kanerva_machine.KanervaMachine",
        "num_slots": 4,
        "code_size": 4,
        "num_filters": 0,
        "hidden_sizes": (16, 8),
        "mlp_size": 8,
        "kl_warmup_steps": 16,
    }
    return config


def simulated_devices(count):
    """The environment of a process that sees so many CPU devices."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={count}"
    return os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}


def saved_on_devices(count, path, module, *arguments):
    """The arrays that `python -m MODULE PATH ARGUMENTS` saves as .npz, on so many CPU devices."""
    finished = subprocess.run(
        [sys.executable, "-m", module, str(path), *arguments],
        env=simulated_devices(count),
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def assert_states_equal(left, right):
    """All leaves of two training states, bit for bit."""
    left, right = (
        dataclasses.replace(s, rng_key=jax.random.key_data(s.rng_key)) for s in (left, right)
    )
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
