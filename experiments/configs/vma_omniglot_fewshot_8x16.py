"""Few-shot generation (VMA section 4.2): the memory holds 16 images of each of 8 classes.

As `vma_omniglot_fewshot`, which holds 4, with 32 filters and a schedule that ends.

Time: 7.5 h on one CPU core; an estimated 4 min on a GPU.
"""

from experiments.configs import vma_omniglot_fewshot


def get_config():
    config = vma_omniglot_fewshot.get_config()
    config.episodes.num_support = 16
    config.model.update(num_filters=32, kl_warmup_steps=2_000)
    config.optimizer.learning_rate = 1e-3
    config.training.num_steps = 70_000
    config.optimizer.decay_steps = config.training.get_oneway_ref("num_steps")
    return config
