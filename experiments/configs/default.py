"""What all configs share; no experiment of its own."""

from typing import Any

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """A VAE on scikit-learn's digits, small enough to overwrite field by field."""
    config = ConfigDict()
    config.seed = 0
    config.init_from = ""  # folder of a run whose parameters are the start
    config.data_dir = ""  # where the data sets are; empty: $MEMJAX_DATA_DIR or ~/memjax_data

    config.dataset = ConfigDict()
    # A set of memjax.data; a folder of images, an .npy or .npz file; or tfds:NAME.
    config.dataset.name = "digits"
    config.dataset.train_split = "train"
    config.dataset.eval_split = "test"
    config.dataset.binarization = "static"  # none, threshold, static, dynamic (anew in each epoch)
    config.dataset.test_fraction = 0.1  # of images that come without a split of their own
    config.dataset.split_seed = 0

    # A sampler of memjax.data, or your "package.module:function", and its arguments.
    config.episodes = {"name": "minibatch", "batch_size": 32}
    config.eval = ConfigDict()
    config.eval.episodes = {"name": "minibatch", "batch_size": 256}
    config.eval.num_batches = 8

    # A class of memjax.models, or your "package.module:Class", and its attributes.
    config.model = {"name": "vae.VAE", "num_samples": 1}

    # One of optax's optimizers, or your "package.module:function", and its arguments.
    config.optimizer = {"name": "adam", "learning_rate": 3e-4}
    config.optimizer.clip_norm = 0.0  # of the whole gradient; 0: no clipping
    config.optimizer.decay_steps = 0  # of a cosine decay of the learning rate to zero; 0: constant
    config.optimizer.anneal_factor = 1.0  # of the learning rate, at each annealing; 1: never
    config.optimizer.anneal_start = 0  # the step at which annealing begins
    config.optimizer.anneal_every = 1  # steps between two annealings

    config.optimizer.memory_rate = 1.0  # of parameters named memory, times the learning rate
    config.optimizer.l2 = 0.0  # of L2 weight decay, which spares parameters named memory

    config.training = ConfigDict()
    config.training.num_steps = 20_000
    config.training.log_every = 500
    config.training.eval_every = 2_000  # a multiple of log_every
    config.training.checkpoint_every = 2_000
    config.training.skip_nonfinite = False  # go on without steps that give NaN; or stop at them
    config.training.ema_decay = 0.0  # of a running average of the parameters; 0: none
    return config


def set_episodes(config: ConfigDict, **fields: Any) -> None:
    """Sets the episodes of training; those of evaluation follow them until they are set apart."""
    config.episodes = fields
    config.eval.episodes = {name: config.episodes.get_oneway_ref(name) for name in fields}
