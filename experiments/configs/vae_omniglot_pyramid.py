"""The VAE beside `vma_omniglot_learned`: same nets, same images, no memory.

Time: 6 h on one CPU core; an estimated 4 min on a GPU.
"""

from experiments.configs import vma_omniglot_learned


def get_config():
    config = vma_omniglot_learned.get_config()
    config.model = {"name": "vae.VAE", "num_samples": 4, "convolutions": "pyramid"}
    config.model.update(latent_size=64, hidden_sizes=(400, 200), num_filters=32)
    config.optimizer.memory_rate = 1.0
    return config
