"""The tests' smallest MEM-VAE, as a file of `--config`."""

from ml_collections import ConfigDict

from tests.conftest import make_vma_config


def get_config() -> ConfigDict:
    config = make_vma_config()
    config.model = ConfigDict({"name": "mem_vae.MemVAE", "latent_size": 2})
    config.model.hidden_sizes = (8, 4)
    config.model.num_slots = (3, 2)
    return config
