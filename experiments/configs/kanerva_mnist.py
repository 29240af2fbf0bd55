"""A small Kanerva Machine on MNIST, of MLPs: episodes of 32.

Time: 10 min on one CPU core; unknown on a GPU.
"""

from experiments.configs import kanerva_digits


def get_config():
    config = kanerva_digits.get_config()
    config.dataset.update(name="mnist", binarization="static")
    config.episodes.num_episodes = 4
    config.model.update(code_size=100, address_size=50, address_latent_size=50)
    return config
