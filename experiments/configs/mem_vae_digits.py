"""MEM-VAE on scikit-learn's 8x8 digits; no download.

The twin VAE: `--config.model.num_slots="(0, 0)" --config.model.local_reconstruction=0.0`.

Time: 15 s on one CPU core; an estimated 5 s on a GPU.
"""

from experiments.configs import mem_vae_mnist


def get_config():
    config = mem_vae_mnist.get_config()
    config.dataset.name = "digits"
    config.model.update(hidden_sizes=(128, 64), latent_size=16, num_slots=(35, 15))
    config.optimizer.update(anneal_start=2_000, anneal_every=10)
    config.training.update(num_steps=4_000, log_every=200, eval_every=1_000)
    config.training.checkpoint_every = 2_000
    return config
