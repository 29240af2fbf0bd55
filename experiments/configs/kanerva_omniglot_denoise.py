"""A small Kanerva Machine on Omniglot, of MLPs, that is trained to denoise too: an extension of KM.

Time: 10 min on one CPU core; unknown on a GPU.
"""

from experiments.configs import kanerva_digits_denoise


def get_config():
    config = kanerva_digits_denoise.get_config()
    config.dataset.name = "omniglot_28x28"
    config.episodes.num_episodes = 4
    config.model.update(code_size=100, address_size=50, address_latent_size=50, kl_weight=0.5)
    config.training.num_steps = 5_000
    return config
