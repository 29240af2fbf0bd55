"""A Kanerva Machine on scikit-learn's digits: episodes of 32; no download.

The VAE beside it is `vae_digits`.

Time: 2 min on one CPU core; an estimated 10 s on a GPU.
"""

from ml_collections import ConfigDict

from experiments.configs import kanerva_omniglot


def get_config() -> ConfigDict:
    config = kanerva_omniglot.get_config()
    config.dataset.name = "digits"
    config.episodes.num_episodes = 8
    config.model.code_size = 64
    config.model.address_size = 32
    config.model.address_latent_size = 32
    config.model.num_filters = 0
    config.model.hidden_sizes = (256,)
    config.model.noise_var = 0.1
    config.model.kl_warmup_steps = 2_000
    config.optimizer.learning_rate = 2e-3
    config.optimizer.decay_steps = config.training.get_oneway_ref("num_steps")
    config.training.num_steps = 9_000
    config.training.eval_every = 1_000
    config.training.checkpoint_every = 1_000
    return config
