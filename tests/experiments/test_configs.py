"""Every config builds: its names are known, and its parts fit each other."""

import importlib
import pkgutil

import jax
import numpy as np
import pytest

from experiments import configs
from memjax import data, training
from memjax.data import sources
from tests.experiments.test_compare import METRICS

_NAMES = [module.name for module in pkgutil.iter_modules(configs.__path__)]


@pytest.fixture
def random_images(monkeypatch):
    """Lets every data set be random images of its shape: 40 of each of 60 classes."""

    def load(name, split, data_dir):
        spec = sources.SPECS[name]
        assert split in spec.split_sizes
        images = np.random.default_rng(0).integers(0, 256, (2_400, *spec.image_shape), np.uint8)
        return data.Dataset(images, np.repeat(np.arange(60), 40).astype(np.int32))

    monkeypatch.setattr(data, "load", load)


@pytest.mark.parametrize("name", _NAMES)
def test_config_builds_a_step(name, random_images):
    config = importlib.import_module(f"experiments.configs.{name}").get_config()
    experiment = training.build(config.lock())
    state = jax.eval_shape(lambda: training.init_state(experiment))
    assert set(state.metric_sums) == METRICS[config.model.name]
    assert sum(leaf.size for leaf in jax.tree.leaves(state.params)) > 100
    for steps in (config.training.eval_every, config.training.checkpoint_every):
        assert steps % config.training.log_every == 0
