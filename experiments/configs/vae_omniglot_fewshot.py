"""The VAE beside `vma_omniglot_fewshot` (VMA section 4.2): same nets, same queries, no memory.

Time: 36 h on one CPU core; an estimated 8 min on a GPU.
"""

from ml_collections import ConfigDict

from experiments.configs import vma_omniglot_fewshot


def get_config() -> ConfigDict:
    config = vma_omniglot_fewshot.get_config()
    config.model = ConfigDict()
    config.model.name = "vae.VAE"
    config.model.convolutions = "pyramid"
    config.model.latent_size = 64
    config.model.hidden_sizes = (128,)
    config.model.num_filters = 64
    config.model.num_samples = 4
    return config
