"""MEM-VAE on Frey faces (section 5.3 of its paper): 200-10, 20 slots, minibatches of 100.

1,000 epochs without annealing. With minibatches of 10: `--config.episodes.batch_size=10
--config.training.num_steps=186000`. The twin VAE: `--config.model.num_slots="(0,)"`.

Time: 3 min on one CPU core; an estimated 1 min on a GPU.
"""

from ml_collections import ConfigDict

from experiments.configs import mem_vae_mnist


def get_config() -> ConfigDict:
    config = mem_vae_mnist.get_config()
    config.dataset.name = "frey_faces"
    config.dataset.binarization = "none"
    config.eval.episodes.batch_size = 100
    config.model.hidden_sizes = (200,)
    config.model.latent_size = 10
    config.model.num_slots = (20,)
    config.model.local_reconstruction = 0.0
    config.model.likelihood = "gaussian"
    # Rare outliers among the first batches would keep Adam's steps small for thousands of steps.
    config.optimizer.clip_norm = 5.0
    config.optimizer.anneal_factor = 1.0
    config.optimizer.anneal_start = 0
    config.training.num_steps = 18_600
    config.training.log_every = 186
    config.training.eval_every = 1_860
    config.training.checkpoint_every = 1_860
    return config
