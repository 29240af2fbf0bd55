"""The VAE beside VMA's MNIST experiments (VMA section 4.1): same nets, no memory.

Time: 11 min on one CPU core; an estimated 2 min on a GPU.
"""

from ml_collections import ConfigDict

from experiments.configs import default


def get_config() -> ConfigDict:
    config = default.get_config()
    config.dataset.name = "mnist"
    config.eval.episodes.batch_size = 512
    config.model = ConfigDict()
    config.model.name = "vae.VAE"
    config.model.latent_size = 32
    config.model.hidden_sizes = (256, 128)
    config.model.num_samples = 4
    config.training.num_steps = 100_000
    return config
