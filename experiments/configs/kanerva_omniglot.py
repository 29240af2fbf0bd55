"""The Kanerva Machine on Omniglot (KM section 4.1): a memory of 64 x 100, episodes of 32 images.

Time: 40 h on one CPU core; an estimated 6 min on a GPU.
"""

from ml_collections import ConfigDict

from experiments.configs import default


def get_config() -> ConfigDict:
    config = default.get_config()
    config.dataset.name = "omniglot_28x28"
    config.dataset.binarization = "threshold"
    config.episodes = ConfigDict({"name": "unstructured", "num_episodes": 16, "episode_length": 32})
    config.eval.episodes = default.linked(config.episodes)
    config.model = ConfigDict()
    config.model.name = "kanerva_machine.KanervaMachine"
    config.model.num_slots = 64
    config.model.code_size = 100
    config.model.address_size = 50
    config.model.address_latent_size = 50
    config.model.num_filters = 16
    config.model.mlp_size = 128
    config.model.likelihood = "bernoulli"
    config.model.noise_var = 1.0
    config.model.bottom_up = True
    config.model.address_noise = 0.2
    config.model.address_scale = 0.1
    config.model.memory_mode = "mean"
    config.model.addressing = "key"
    config.model.diagonal = False
    config.model.kl_warmup_steps = 4_000
    config.model.kl_weight = 1.0
    config.model.denoising_weight = 0.0
    config.model.denoising_readings = 2
    config.optimizer.learning_rate = 1e-4
    config.training.num_steps = 200_000
    return config
