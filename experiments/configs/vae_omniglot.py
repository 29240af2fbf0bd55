"""The VAE beside `kanerva_omniglot`: the same encoder and decoder, as many images a step.

Time: 44 h on one CPU core; an estimated 7 min on a GPU.
"""

from ml_collections import ConfigDict

from experiments.configs import default


def get_config() -> ConfigDict:
    config = default.get_config()
    config.dataset.name = "omniglot_28x28"
    config.dataset.binarization = "threshold"
    config.episodes.batch_size = 512
    config.model = ConfigDict()
    config.model.name = "vae.VAE"
    config.model.latent_size = 100
    config.model.num_filters = 16
    config.model.likelihood = "bernoulli"
    config.model.num_samples = 1
    config.optimizer.learning_rate = 1e-4
    config.training.num_steps = 200_000
    return config
