"""MEM-VAE on MNIST (section 5.1 of its paper): 500-500-100, 70 and 30 slots, 3,000 epochs.

`--config.model.num_samples=5` or 50 is the MEM-IWAE. The twin VAE or IWAE has
`--config.model.num_slots="(0, 0)" --config.model.local_reconstruction=0.0`, and the larger baseline
also `--config.model.hidden_sizes="(530, 530)"`. A run of fewer steps than `anneal_start` needs
`--config.optimizer.anneal_factor=1.0`. The model of appendix D has
`--config.model.attention=softmax --config.model.composition=sum`.

Time: 17 h on one CPU core; an estimated 30 min on a GPU.
"""

from ml_collections import ConfigDict

from experiments.configs import default


def get_config():
    config = default.get_config()
    config.dataset.update(name="mnist", binarization="dynamic")
    config.episodes.batch_size = 100
    config.model = {"name": "mem_vae.MemVAE", "likelihood": "bernoulli"}
    config.model.update(hidden_sizes=(500, 500), latent_size=100, batch_norm=True)
    config.model.update(num_slots=(70, 30), attention="sigmoid", composition="mlp")
    config.model.update(local_reconstruction=0.1, num_samples=1)
    config.optimizer.update(learning_rate=1e-3, eps=1e-4, anneal_factor=0.998)
    set_epochs(config, steps=600, log_every=1, eval_every=10)
    return config


def set_epochs(config: ConfigDict, steps: int, log_every: int, eval_every: int) -> None:
    """3,000 epochs of `steps`, annealed after 1,000; the other two are counted in epochs."""
    config.optimizer.update(anneal_start=1_000 * steps, anneal_every=steps)
    config.training.update(num_steps=3_000 * steps, log_every=log_every * steps)
    config.training.update(eval_every=eval_every * steps, checkpoint_every=eval_every * steps)
