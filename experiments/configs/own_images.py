"""Images of your own: a VMA with a Gaussian likelihood, whose memory holds 32 of them.

`--config.dataset.name=FOLDER`, or an .npy or .npz file, or tfds:NAME; grey or colour, of one size.
The queries are images that the memory holds. As it stands, it trains on scikit-learn's digits.

Time: 3 min on one CPU core; an estimated 10 s on a GPU.
"""

from experiments.configs import default


def get_config():
    config = default.get_config()
    config.dataset.binarization = "none"
    default.set_episodes(config, name="recall", num_slots=32, batch_size=32)
    config.model = {"name": "vma.VMA", "likelihood": "gaussian", "num_samples": 4}
    config.model.num_filters = 0  # above 0: convolutions
    config.model.update(latent_size=32, hidden_sizes=(256, 128))
    config.model.update(embedding_size=128, tied_embeddings=True)
    config.optimizer.learning_rate = 1e-3
    config.optimizer.decay_steps = config.training.get_oneway_ref("num_steps")
    config.training.update(num_steps=3_000, eval_every=1_000, checkpoint_every=1_000)
    return config
