"""A VAE on scikit-learn's 8x8 digits: half a minute on 2 cores, no download."""

from ml_collections import ConfigDict

from experiments.configs import default


def get_config() -> ConfigDict:
    config = default.get_config()
    config.dataset.binarization = "dynamic"
    config.model = ConfigDict()
    config.model.name = "vae.VAE"
    config.model.latent_size = 16
    config.model.hidden_sizes = (128, 64)
    config.model.num_samples = 4
    config.optimizer.learning_rate = 1e-3
    config.training.num_steps = 10_000
    return config
