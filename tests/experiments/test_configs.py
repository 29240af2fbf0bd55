"""Every config builds: its names are known, and its parts fit each other."""

import copy
import importlib
import json
import pkgutil

import jax
import pytest

from benchmarks import steps
from experiments import configs
from memjax import training
from memjax.data import sources
from tests.experiments.test_compare import METRICS

_NAMES = [module.name for module in pkgutil.iter_modules(configs.__path__)]


def random_images(name, split, *_, **__):
    """Of a data set's shape."""
    assert split in sources.SPECS[name].split_sizes
    return steps.random_set(name)


def load(name):
    return importlib.import_module(f"experiments.configs.{name}").get_config().lock()


# The same classes as another config's, of other sizes.
_LIKE_OTHERS = {
    "dnc_omniglot",
    "kanerva_cifar10",
    "kanerva_digits_denoise",
    "kanerva_mnist",
    "kanerva_mnist_pseudo_inverse",
    "kanerva_omniglot",
    "kanerva_omniglot_denoise",
    "kanerva_omniglot_pseudo_inverse",
    "lrua_omniglot",
    "mem_vae_frey_faces",
    "mem_vae_mnist",
    "mem_vae_ocr_letters",
    "vae_cifar10",
    "vae_mnist",
    "vae_omniglot",
    "vae_omniglot_fewshot",
    "vma_digits_fewshot",
    "vma_mnist_recall",
    "vma_omniglot_fewshot_8x16",
    "vma_omniglot_learned",
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] * (n in _LIKE_OTHERS)) for n in _NAMES],
)
def test_config_builds_a_step(name):
    config = load(name)
    experiment = training.build(config, random_images)
    state = jax.eval_shape(lambda: training.init_state(experiment))
    assert set(state.metric_sums) == METRICS[config.model.name]
    assert sum(leaf.size for leaf in jax.tree.leaves(state.params)) > 100
    for every in (config.training.eval_every, config.training.checkpoint_every):
        assert every % config.training.log_every == 0


_SIZES = {"recall": "num_slots", "few_shot": "num_support", "unstructured": "episode_length"}


@pytest.mark.parametrize("name", [name for name in _NAMES if load(name).episodes.name in _SIZES])
def test_evaluation_asks_of_a_memory_of_the_trained_size_unless_told_otherwise(name):
    config = load(name)
    size = _SIZES[config.episodes.name]
    config.episodes[size] += 1
    assert config.eval.episodes[size] == config.episodes[size]
    config.eval.episodes[size] = 3
    assert config.episodes[size] != 3


@pytest.mark.parametrize("name", [name for name in _NAMES if load(name).optimizer.decay_steps])
def test_a_decay_ends_with_training_unless_told_otherwise(name):
    config = load(name)
    config.training.num_steps += 7
    assert config.optimizer.decay_steps == config.training.num_steps
    config.optimizer.decay_steps = 3
    assert config.training.num_steps != 3


@pytest.mark.parametrize("name", _NAMES)
def test_no_field_stands_for_nothing(name):
    """What a config says is what its experiment is made of."""
    config = load(name)
    assert config.eval.episodes.name == config.episodes.name
    assert config.optimizer.anneal_start < config.training.num_steps
    assert json.loads(config.to_json()) == json.loads(copy.deepcopy(config).to_json())
