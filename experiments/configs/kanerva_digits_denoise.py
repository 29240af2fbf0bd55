"""A Kanerva Machine on scikit-learn's digits that is trained to denoise too: an extension of KM.

Time: 4 min on one CPU core; unknown on a GPU.
"""

from ml_collections import ConfigDict

from experiments.configs import kanerva_digits


def get_config() -> ConfigDict:
    config = kanerva_digits.get_config()
    config.model.denoising_weight = 1.0
    config.model.denoising_readings = 2
    config.training.num_steps = 6_000
    return config
