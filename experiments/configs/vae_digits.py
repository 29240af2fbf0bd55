"""The VAE beside `kanerva_digits`, as many images a step; no download.

Its nets are smaller, or it would overfit: so it is the better twin.

Time: 15 s on one CPU core; an estimated 10 s on a GPU.
"""

from ml_collections import ConfigDict

from experiments.configs import default


def get_config() -> ConfigDict:
    config = default.get_config()
    config.dataset.binarization = "threshold"
    config.episodes.batch_size = 256
    config.model = ConfigDict()
    config.model.name = "vae.VAE"
    config.model.latent_size = 16
    config.model.hidden_sizes = (128, 64)
    config.model.num_samples = 1
    config.optimizer.learning_rate = 1e-3
    config.training.num_steps = 9_000
    config.training.eval_every = 1_000
    config.training.checkpoint_every = 1_000
    return config
