"""MEM-VAE on OCR letters (section 5.1 of its paper): 200-200-50, 70 and 30 slots, 3,000 epochs.

Samples, the twin VAE and shorter runs: as in `mem_vae_mnist`.

Time: 2.2 h on one CPU core; an estimated 16 min on a GPU.
"""

from ml_collections import ConfigDict

from experiments.configs import mem_vae_mnist

_EPOCH = 321  # steps


def get_config() -> ConfigDict:
    config = mem_vae_mnist.get_config()
    config.dataset.name = "ocr_letters"
    config.dataset.binarization = "none"  # they are binary
    config.model.hidden_sizes = (200, 200)
    config.model.latent_size = 50
    config.optimizer.anneal_start = 1_000 * _EPOCH
    config.optimizer.anneal_every = _EPOCH
    config.training.num_steps = 3_000 * _EPOCH
    config.training.log_every = 10 * _EPOCH
    config.training.eval_every = 50 * _EPOCH
    config.training.checkpoint_every = 50 * _EPOCH
    return config
