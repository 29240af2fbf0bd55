"""Few-shot generation (VMA section 4.2): the memory holds 4 images of each of 8 classes.

The 45/5 split of Omniglot's alphabets, 26 x 26. `--config.episodes.num_support=1` or 8 for the
paper's other memories (figure 4B).

Time: 82 h on one CPU core; an estimated 20 min on a GPU.
"""

from ml_collections import ConfigDict

from experiments.configs import default


def get_config() -> ConfigDict:
    config = default.get_config()
    config.dataset.name = "omniglot_26x26"
    config.dataset.train_split = "fewshot_train"
    config.dataset.eval_split = "fewshot_test"
    config.dataset.binarization = "threshold"
    config.episodes = ConfigDict(
        {"name": "few_shot", "num_classes": 8, "num_support": 4, "num_queries": 4}
    )
    config.eval.episodes = default.linked(config.episodes)
    config.eval.num_batches = 16
    config.model = ConfigDict()
    config.model.name = "vma.VMA"
    config.model.latent_size = 64
    config.model.hidden_sizes = (128,)
    config.model.num_filters = 64
    config.model.embedding_size = 128
    config.model.similarity = "key_normalized"
    config.model.tied_embeddings = True
    config.model.address_prior = "learned"
    config.model.num_samples = 4
    config.model.address_estimator = "auto"
    config.optimizer.learning_rate = 3e-4
    config.training.num_steps = 200_000
    return config
