"""Train to recall, on scikit-learn's 8x8 digits; no download.

The queries are images that the memory holds; an optimal model's NLL is log(num_slots).

Time: 40 s on one CPU core; an estimated 10 s on a GPU.
"""

from experiments.configs import default


def get_config():
    config = default.get_config()
    default.set_episodes(config, name="recall", num_slots=64, batch_size=32)
    config.eval.episodes.batch_size = 256
    config.model = {"name": "vma.VMA", "num_samples": 4, "address_estimator": "auto"}
    config.model.update(latent_size=16, hidden_sizes=(128, 64), embedding_size=64)
    config.optimizer.learning_rate = 3e-3
    config.optimizer.decay_steps = config.training.get_oneway_ref("num_steps")
    config.training.num_steps = 10_000
    return config
