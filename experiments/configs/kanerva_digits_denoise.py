"""A Kanerva Machine on scikit-learn's digits that is trained to denoise too: an extension of KM.

Time: 4 min on one CPU core; unknown on a GPU.
"""

from experiments.configs import kanerva_digits


def get_config():
    config = kanerva_digits.get_config()
    config.model.update(denoising_weight=1.0, denoising_readings=2)
    config.training.num_steps = 6_000
    return config
