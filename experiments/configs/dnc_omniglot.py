"""The DNC in the Kanerva Machine's place on Omniglot (KM section 4.4, figure 6).

The Kanerva Machine beside it: `kanerva_omniglot` with `--config.model.bottom_up=False`.

Time: 42 h on one CPU core; unknown on a GPU.
"""

from ml_collections import ConfigDict

from experiments.configs import kanerva_omniglot


def get_config():
    config = in_its_place(kanerva_omniglot.get_config())
    config.optimizer.learning_rate = 3e-4
    return config


def in_its_place(config: ConfigDict) -> ConfigDict:
    """A Kanerva Machine's config with the DNC for the memory, and all else as it is."""
    for field in ("address_size", "memory_mode", "addressing", "diagonal"):
        del config.model[field]
    config.model.name = "dnc_machine.DNCMachine"
    config.model.update(num_heads=1, controller_size=200, bottom_up=False)
    return config
