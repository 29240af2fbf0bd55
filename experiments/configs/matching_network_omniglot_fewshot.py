"""A Generative Matching Network beside `vma_omniglot_fewshot` (VMA table 1): same nets.

Time: 40 h on one CPU core; an estimated 10 min on a GPU.
"""

from experiments.configs import soft_memory_omniglot_fewshot


def get_config():
    config = soft_memory_omniglot_fewshot.get_config()
    config.model.update(name="matching_network.MatchingNetwork", num_hops=2)
    return config
