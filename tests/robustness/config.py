"""The smallest config that trains: seconds to start, a millisecond a step; a file of `--config`."""

from ml_collections import ConfigDict

from experiments.configs import default


def get_config() -> ConfigDict:
    config = default.get_config()
    config.episodes.batch_size = config.eval.episodes.batch_size = 8
    config.eval.num_batches = 1
    config.model = ConfigDict(
        {"name": "vae.VAE", "hidden_sizes": (8,), "latent_size": 2, "num_samples": 1}
    )
    config.training.num_steps = 8
    config.training.log_every = 2
    config.training.eval_every = 4
    config.training.checkpoint_every = 4
    return config
