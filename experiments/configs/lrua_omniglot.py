"""Least-recently-used access in the Kanerva Machine's place on Omniglot (KM section 4.4).

Time: 46 h on one CPU core; unknown on a GPU.
"""

from experiments.configs import dnc_omniglot


def get_config():
    config = dnc_omniglot.get_config()
    config.model.name = "dnc_machine.LRUAMachine"
    return config
