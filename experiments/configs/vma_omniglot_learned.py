"""A learned memory on Omniglot (VMA section 4.2): 256 slots, 32 filters, weight decay.

Up to 2048 slots in the paper, which then overfits.

Time: 23 h on one CPU core; an estimated 3 min on a GPU.
"""

from ml_collections import ConfigDict

from experiments.configs import default


def get_config() -> ConfigDict:
    config = default.get_config()
    config.dataset.name = "omniglot_28x28"
    config.dataset.train_split = "unlabelled_train"
    config.dataset.eval_split = "unlabelled_test"
    config.dataset.binarization = "threshold"
    config.model = ConfigDict()
    config.model.name = "vma.VMA"
    config.model.latent_size = 64
    config.model.hidden_sizes = (128,)
    config.model.num_filters = 32
    config.model.embedding_size = 128
    config.model.similarity = "key_normalized"
    config.model.address_prior = "learned"
    config.model.num_slots = 256
    config.model.slot_size = 256
    config.model.slot_scale = 0.1
    config.model.zero_output = True
    config.model.num_samples = 4
    config.model.address_estimator = "auto"
    config.optimizer.memory_rate = 18.0
    config.optimizer.l2 = 3e-4
    config.training.num_steps = 200_000
    return config
