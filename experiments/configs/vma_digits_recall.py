"""Train to recall, on scikit-learn's 8x8 digits; no download.

The queries are images that the memory holds; an optimal model's NLL is log(num_slots).

Time: 40 s on one CPU core; an estimated 10 s on a GPU.
"""

from ml_collections import ConfigDict

from experiments.configs import default


def get_config() -> ConfigDict:
    config = default.get_config()
    config.episodes = ConfigDict({"name": "recall", "num_slots": 64, "batch_size": 32})
    config.eval.episodes = default.linked(config.episodes)
    config.eval.episodes.batch_size = 256
    config.model = ConfigDict()
    config.model.name = "vma.VMA"
    config.model.latent_size = 16
    config.model.hidden_sizes = (128, 64)
    config.model.embedding_size = 64
    config.model.num_samples = 4
    config.model.address_estimator = "auto"
    config.optimizer.learning_rate = 3e-3
    config.optimizer.decay_steps = config.training.get_oneway_ref("num_steps")
    config.training.num_steps = 10_000
    return config
