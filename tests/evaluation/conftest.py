"""Runs of tiny models with random parameters, for what needs no training."""

import dataclasses
from functools import partial

import jax
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from memjax import data
from memjax.evaluation import Run
from memjax.training import Experiment, Stage, build, init_state
from tests.conftest import make_kanerva_config, make_vma_config
from tests.evaluation.own_model import AddressedFlips, Flips

_MINIBATCH = {"name": "minibatch", "batch_size": 8}


@pytest.fixture(scope="session")
def vma_run():
    """A VMA that recalls digits; one net embeds queries and slots, so that they find each other."""
    config = make_vma_config()
    config.model.tied_embeddings = True
    return not_trained(config)


@pytest.fixture(scope="session")
def vae_run():
    """A VAE of digits with a latent of one dimension, which changes the image."""
    return enlarged(not_trained(make_vae_config()))


@pytest.fixture(scope="session")
def kanerva_run():
    """A Kanerva Machine of digits."""
    return not_trained(make_kanerva_config())


@pytest.fixture(scope="session")
def mem_vae_run():
    """A MEM-VAE of digits, whose slots are added; its parameters are of some size."""
    config = make_vma_config()
    config.episodes = config.eval.episodes = _MINIBATCH
    config.model = {
        "name": "mem_vae.MemVAE",
        "hidden_sizes": (32, 16),
        "latent_size": 4,
        "num_slots": (5, 3),
        "attention": "softmax",
        "composition": "sum",
    }
    return enlarged(not_trained(config))


@pytest.fixture(scope="session")
def few_shot_run():
    """A VMA of few-shot episodes of digits."""
    return not_trained(make_few_shot_config())


@pytest.fixture(scope="session")
def own_run():
    """A user's model of single digits, with no folder and no config."""
    return make_own_run(Flips, partial(data.minibatch, batch_size=8))


@pytest.fixture(scope="session")
def own_recall_run():
    """A user's model that addresses its support."""
    return make_own_run(AddressedFlips, partial(data.recall, num_slots=16, batch_size=8))


def make_own_run(model_class, sampler) -> Run:
    model = model_class(image_shape=(8, 8, 1))
    stage = Stage.create(data.load("digits", "test"), sampler, binarization="threshold")
    variables = {"params": {"logit": np.float32(np.log(0.95 / 0.05))}}
    return Run(Experiment(model, optax.sgd(1.0), stage, stage), variables, step=0)


def not_trained(config: ConfigDict) -> Run:
    experiment = build(config)
    return Run(experiment, init_state(experiment).eval_variables, step=0)


def enlarged(run: Run) -> Run:
    """The run with parameters of some size."""
    rng = np.random.default_rng(0)

    def enlarge(p):
        return (p + 0.3 * rng.normal(size=p.shape)).astype(p.dtype)

    params = jax.tree.map(enlarge, run.variables["params"])
    return dataclasses.replace(run, variables={**run.variables, "params": params})


def make_vae_config() -> ConfigDict:
    config = make_vma_config()
    config.episodes = config.eval.episodes = _MINIBATCH
    config.model = {"name": "vae.VAE", "hidden_sizes": (16, 8), "latent_size": 1}
    return config


def make_few_shot_config() -> ConfigDict:
    config = make_vma_config()
    episodes = {"name": "few_shot", "num_classes": 2, "num_support": 2, "num_queries": 4}
    config.episodes = config.eval.episodes = episodes
    config.model.tied_embeddings = True
    return config
