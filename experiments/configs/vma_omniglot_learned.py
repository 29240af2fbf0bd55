"""A learned memory on Omniglot (VMA section 4.2): 256 slots, 32 filters.

Up to 2048 slots in the paper, which then overfits.

Time: 8 h on one CPU core; an estimated 5 min on a GPU.
"""

from experiments.configs import vma_mnist_learned


def get_config():
    config = vma_mnist_learned.get_config()
    config.dataset.update(name="omniglot_28x28", binarization="threshold")
    config.dataset.update(train_split="unlabelled_train", eval_split="unlabelled_test")
    config.eval.episodes.batch_size = 256
    config.model.update(latent_size=64, hidden_sizes=(400, 200), num_filters=32)
    config.model.update(zero_output=False, kl_warmup_steps=1_500)  # so that z comes into use
    config.optimizer.update(learning_rate=1e-3, memory_rate=18.0)
    config.training.num_steps = 200_000
    return config
