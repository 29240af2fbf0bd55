"""The Kanerva Machine on Omniglot (KM section 4.1): a memory of 64 x 100, episodes of 32 images.

Time: 40 h on one CPU core; an estimated 6 min on a GPU.
"""

from experiments.configs import default


def get_config():
    config = default.get_config()
    config.dataset.update(name="omniglot_28x28", binarization="threshold")
    default.set_episodes(config, name="unstructured", num_episodes=16, episode_length=32)
    config.model = {"name": "kanerva_machine.KanervaMachine"}
    config.model.update(num_filters=16, mlp_size=128, likelihood="bernoulli")
    config.model.update(num_slots=64, code_size=100, address_size=50, address_latent_size=50)
    config.model.update(noise_var=1.0, diagonal=False, memory_mode="mean", addressing="key")
    config.model.update(bottom_up=True, address_noise=0.2, address_scale=0.1)
    config.model.update(kl_warmup_steps=4_000, kl_weight=1.0)
    config.model.update(denoising_weight=0.0, denoising_readings=2)
    config.optimizer.update(learning_rate=1e-4, clip_norm=10.0)  # at 1e-3 outliers end a run
    config.training.num_steps = 200_000
    return config
