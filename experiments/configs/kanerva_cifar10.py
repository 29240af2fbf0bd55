"""The Kanerva Machine on CIFAR-10 (KM section 4): a memory of 128 x 200, 32 filters.

Time: 240 h on one CPU core; an estimated 30 min on a GPU.
"""

from ml_collections import ConfigDict

from experiments.configs import kanerva_omniglot


def get_config() -> ConfigDict:
    config = kanerva_omniglot.get_config()
    config.dataset.name = "cifar10"
    config.dataset.binarization = "none"
    config.model.num_slots = 128
    config.model.code_size = 200
    config.model.num_filters = 32
    config.model.likelihood = "gaussian"
    return config
