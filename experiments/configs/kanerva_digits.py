"""A Kanerva Machine on scikit-learn's digits: episodes of 32; no download.

The VAE beside it is `vae_digits`.

Time: 2 min on one CPU core; an estimated 10 s on a GPU.
"""

from experiments.configs import kanerva_omniglot


def get_config():
    config = kanerva_omniglot.get_config()
    config.dataset.name = "digits"
    config.episodes.num_episodes = 8
    config.model.update(num_filters=0, hidden_sizes=(256,))
    config.model.update(code_size=64, address_size=32, address_latent_size=32)
    config.model.update(noise_var=0.1, kl_warmup_steps=2_000)
    config.optimizer.update(learning_rate=2e-3, clip_norm=0.0)
    config.optimizer.decay_steps = config.training.get_oneway_ref("num_steps")
    config.training.update(num_steps=9_000, eval_every=1_000, checkpoint_every=1_000)
    return config
