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

_EPOCH = 600  # steps


def get_config() -> ConfigDict:
    config = default.get_config()
    config.dataset.name = "mnist"
    config.dataset.binarization = "dynamic"
    config.episodes.batch_size = 100
    config.model = ConfigDict()
    config.model.name = "mem_vae.MemVAE"
    config.model.hidden_sizes = (500, 500)
    config.model.latent_size = 100
    config.model.num_slots = (70, 30)
    config.model.attention = "sigmoid"
    config.model.composition = "mlp"
    config.model.batch_norm = True
    config.model.local_reconstruction = 0.1
    config.model.likelihood = "bernoulli"
    config.model.num_samples = 1
    config.optimizer.learning_rate = 1e-3
    config.optimizer.eps = 1e-4
    config.optimizer.anneal_factor = 0.998
    config.optimizer.anneal_start = 1_000 * _EPOCH
    config.optimizer.anneal_every = _EPOCH
    config.training.num_steps = 3_000 * _EPOCH
    config.training.log_every = _EPOCH
    config.training.eval_every = 10 * _EPOCH
    config.training.checkpoint_every = 10 * _EPOCH
    return config
