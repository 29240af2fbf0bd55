"""A small Kanerva Machine on MNIST, of MLPs: episodes of 32.

Time: 10 min on one CPU core; unknown on a GPU.
"""

from ml_collections import ConfigDict

from experiments.configs import kanerva_digits


def get_config() -> ConfigDict:
    config = kanerva_digits.get_config()
    config.dataset.name = "mnist"
    config.dataset.binarization = "static"
    config.episodes.num_episodes = 4
    config.model.code_size = 100
    config.model.address_size = 50
    config.model.address_latent_size = 50
    return config
