"""The VAE beside `kanerva_cifar10`: the same encoder and decoder, as many images a step.

Time: 240 h on one CPU core; an estimated 34 min on a GPU.
"""

from ml_collections import ConfigDict

from experiments.configs import vae_omniglot


def get_config() -> ConfigDict:
    config = vae_omniglot.get_config()
    config.dataset.name = "cifar10"
    config.dataset.binarization = "none"
    config.model.latent_size = 200
    config.model.num_filters = 32
    config.model.likelihood = "gaussian"
    return config
