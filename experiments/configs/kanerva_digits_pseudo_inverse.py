"""A Kanerva Machine on scikit-learn's digits that is read by least squares; no download.

It writes as the Generative Pseudo-Inverse Memory does (Pham et al. 2022); as the Dynamic Kanerva
Machine (Wu et al. 2018) with `--config.model.addressing=least_squares`.

Time: 4 min on one CPU core; unknown on a GPU.
"""

from ml_collections import ConfigDict

from experiments.configs import kanerva_digits


def get_config():
    return by_pseudo_inverse(kanerva_digits.get_config())


def by_pseudo_inverse(config: ConfigDict) -> ConfigDict:
    """A Kanerva Machine's config with addresses by least squares, and all else as it is."""
    config.model.update(addressing="pseudo_inverse", bottom_up=False)
    config.model.update(num_slots=32, code_size=256, noise_var=2.0, kl_warmup_steps=0)
    return config
