"""A small Kanerva Machine on Omniglot, of MLPs, read by least squares.

See `kanerva_digits_pseudo_inverse`.

Time: 10 min on one CPU core; unknown on a GPU.
"""

from experiments.configs import kanerva_mnist_pseudo_inverse


def get_config():
    config = kanerva_mnist_pseudo_inverse.get_config()
    config.dataset.update(name="omniglot_28x28", binarization="threshold")
    return config
