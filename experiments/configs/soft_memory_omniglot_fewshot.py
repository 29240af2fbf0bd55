"""Soft attention beside `vma_omniglot_fewshot` (VMA section 4.2): same nets, same episodes.

Time: 27 h on one CPU core; an estimated 8 min on a GPU.
"""

from experiments.configs import vae_omniglot_fewshot


def get_config():
    config = vae_omniglot_fewshot.get_config()
    del config.model.convolutions
    config.model.update(name="soft_memory.SoftMemory", num_samples=1)
    config.model.update(embedding_size=128, similarity="key_normalized")
    return config
