"""The VAE beside `kanerva_omniglot`: the same encoder and decoder, as many images a step.

Time: 44 h on one CPU core; an estimated 7 min on a GPU.
"""

from experiments.configs import default


def get_config():
    config = default.get_config()
    config.dataset.update(name="omniglot_28x28", binarization="threshold")
    config.episodes.batch_size = 512
    config.model.update(latent_size=100, num_filters=16, likelihood="bernoulli")
    config.optimizer.learning_rate = 1e-4
    config.training.num_steps = 200_000
    return config
