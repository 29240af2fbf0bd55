"""MEM-VAE on Frey faces (section 5.3 of its paper): 200-10, 20 slots, minibatches of 100.

1,000 epochs without annealing. With minibatches of 10: `--config.episodes.batch_size=10
--config.training.num_steps=186000`. The twin VAE: `--config.model.num_slots="(0,)"`.

Time: 3 min on one CPU core; an estimated 1 min on a GPU.
"""

from experiments.configs import mem_vae_mnist


def get_config():
    config = mem_vae_mnist.get_config()
    config.dataset.update(name="frey_faces", binarization="none")
    config.eval.episodes.batch_size = 100
    config.model.update(hidden_sizes=(200,), latent_size=10, num_slots=(20,))
    config.model.update(local_reconstruction=0.0, likelihood="gaussian")
    # Rare outliers among the first batches would keep Adam's steps small for thousands of steps.
    config.optimizer.clip_norm = 5.0
    config.optimizer.update(anneal_factor=1.0, anneal_start=0)
    config.training.update(num_steps=18_600, log_every=186)
    config.training.update(eval_every=1_860, checkpoint_every=1_860)
    return config
