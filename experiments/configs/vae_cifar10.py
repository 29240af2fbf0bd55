"""The VAE beside `kanerva_cifar10`: the same encoder and decoder, as many images a step.

Time: 240 h on one CPU core; an estimated 34 min on a GPU.
"""

from experiments.configs import vae_omniglot


def get_config():
    config = vae_omniglot.get_config()
    config.dataset.update(name="cifar10", binarization="none")
    config.model.update(latent_size=200, num_filters=32, likelihood="gaussian")
    return config
