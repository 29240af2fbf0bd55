import dataclasses

import jax
import numpy as np
import pytest

from memjax.evaluation import Run, load_run
from memjax.training import build, init_state, train_and_evaluate
from tests.conftest import make_kanerva_config, make_vma_config


@pytest.fixture(scope="session")
def recall_run(tmp_path_factory):
    """A VMA that has begun to recall digits."""
    workdir = tmp_path_factory.mktemp("vma")
    config = make_vma_config()
    config.model.tied_embeddings = True  # finds its slots whatever the machine's rounding
    config.optimizer.learning_rate = 1e-2
    config.training.num_steps = config.training.eval_every = config.training.log_every = 1_000
    config.training.checkpoint_every = 1_000
    train_and_evaluate(config, workdir)
    return load_run(workdir)


@pytest.fixture(scope="session")
def vae_run():
    """A VAE of digits with a latent of one dimension; not trained."""
    return not_trained(make_vae_config())


@pytest.fixture(scope="session")
def bare_vae_run():
    """The same without parameters: enough to be refused."""
    return Run(build(make_vae_config()), {}, step=0)


def make_vae_config():
    config = make_vma_config()
    config.episodes = config.eval.episodes = {"name": "minibatch", "batch_size": 8}
    config.model = {"name": "vae.VAE", "hidden_sizes": (16, 8), "latent_size": 1}
    return config


@pytest.fixture(scope="session")
def kanerva_run(tmp_path_factory):
    """A Kanerva Machine of digits after a few steps of its warm-up."""
    workdir = tmp_path_factory.mktemp("kanerva")
    train_and_evaluate(make_kanerva_config(), workdir)
    return load_run(workdir)


@pytest.fixture(scope="session")
def mem_vae_run():
    """A MEM-VAE of digits, whose slots are added; not trained, but with parameters of some size."""
    config = make_vma_config()
    config.episodes = config.eval.episodes = {"name": "minibatch", "batch_size": 8}
    config.model = {
        "name": "mem_vae.MemVAE",
        "hidden_sizes": (32, 16),
        "latent_size": 4,
        "num_slots": (5, 3),
        "attention": "softmax",
        "composition": "sum",
    }
    run, rng = not_trained(config), np.random.default_rng(0)
    params = jax.tree.map(lambda p: p + 0.3 * rng.normal(size=p.shape), run.variables["params"])
    return dataclasses.replace(run, variables={**run.variables, "params": params})


@pytest.fixture(scope="session")
def few_shot_run():
    """A VMA of few-shot episodes of digits; not trained."""
    return not_trained(make_few_shot_config())


def not_trained(config):
    experiment = build(config)
    return Run(experiment, init_state(experiment).eval_variables, step=0)


def make_few_shot_config():
    config = make_vma_config()
    episodes = {"name": "few_shot", "num_classes": 2, "num_support": 2, "num_queries": 4}
    config.episodes = config.eval.episodes = episodes
    config.model.tied_embeddings = True
    return config
