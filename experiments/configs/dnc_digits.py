"""The DNC in the Kanerva Machine's place on scikit-learn's digits; no download.

The Kanerva Machine beside it: `kanerva_digits` with `--config.model.bottom_up=False`.

Time: 7 min on one CPU core; unknown on a GPU.
"""

from experiments.configs import dnc_omniglot, kanerva_digits


def get_config():
    return dnc_omniglot.in_its_place(kanerva_digits.get_config())
