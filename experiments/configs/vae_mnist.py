"""The VAE beside VMA's MNIST experiments (VMA section 4.1): same nets, no memory.

Time: 11 min on one CPU core; an estimated 2 min on a GPU.
"""

from experiments.configs import default


def get_config():
    config = default.get_config()
    config.dataset.name = "mnist"
    config.eval.episodes.batch_size = 512
    config.model.update(latent_size=32, hidden_sizes=(256, 128), num_samples=4)
    config.training.num_steps = 100_000
    return config
