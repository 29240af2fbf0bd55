"""The VAE beside `kanerva_digits`, as many images a step; no download.

Its nets are smaller, or it would overfit: so it is the better twin.

Time: 15 s on one CPU core; an estimated 10 s on a GPU.
"""

from experiments.configs import default


def get_config():
    config = default.get_config()
    config.dataset.binarization = "threshold"
    config.episodes.batch_size = 256
    config.model.update(latent_size=16, hidden_sizes=(128, 64))
    config.optimizer.learning_rate = 1e-3
    config.training.update(num_steps=9_000, eval_every=1_000, checkpoint_every=1_000)
    return config
