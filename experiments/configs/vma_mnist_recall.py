"""Train to recall (VMA section 4.1, figure 2A): the queries are images that the memory holds.

An optimal model's NLL is log(num_slots), that of a look-up table.

Time: 3 min on one CPU core; an estimated 10 s on a GPU.
"""

from ml_collections import ConfigDict

from experiments.configs import default


def get_config() -> ConfigDict:
    config = default.get_config()
    config.dataset.name = "mnist"
    config.episodes = ConfigDict({"name": "recall", "num_slots": 256, "batch_size": 32})
    config.eval.episodes = default.linked(config.episodes)
    config.eval.episodes.batch_size = 256
    config.model = ConfigDict()
    config.model.name = "vma.VMA"
    config.model.latent_size = 32
    config.model.hidden_sizes = (256, 128)
    config.model.embedding_size = 128
    config.model.similarity = "key_normalized"
    config.model.tied_embeddings = True
    config.model.address_prior = "learned"
    config.model.num_samples = 4
    config.model.address_estimator = "auto"
    config.optimizer.learning_rate = 3e-3
    config.optimizer.decay_steps = config.training.get_oneway_ref("num_steps")
    config.training.num_steps = 10_000
    return config
