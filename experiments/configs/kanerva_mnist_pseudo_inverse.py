"""`kanerva_mnist`, read by least squares; see `kanerva_digits_pseudo_inverse`.

Time: 10 min on one CPU core; unknown on a GPU.
"""

from experiments.configs import kanerva_digits_pseudo_inverse, kanerva_mnist


def get_config():
    return kanerva_digits_pseudo_inverse.by_pseudo_inverse(kanerva_mnist.get_config())
