"""The VAE beside `vma_omniglot_fewshot` (VMA section 4.2): same nets, same queries, no memory.

Time: 36 h on one CPU core; an estimated 8 min on a GPU.
"""

from experiments.configs import vma_omniglot_fewshot


def get_config():
    config = vma_omniglot_fewshot.get_config()
    config.model = {"name": "vae.VAE", "num_samples": 4, "convolutions": "pyramid"}
    config.model.update(latent_size=64, hidden_sizes=(128,), num_filters=64)
    return config
