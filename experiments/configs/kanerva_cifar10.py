"""The Kanerva Machine on CIFAR-10 (KM section 4): a memory of 128 x 200, 32 filters.

Time: 240 h on one CPU core; an estimated 30 min on a GPU.
"""

from experiments.configs import kanerva_omniglot


def get_config():
    config = kanerva_omniglot.get_config()
    config.dataset.update(name="cifar10", binarization="none")
    config.model.update(num_slots=128, code_size=200, num_filters=32, likelihood="gaussian")
    return config
