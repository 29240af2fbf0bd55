"""Few-shot generation (VMA section 4.2): the memory holds 4 images of each of 8 classes.

The 45/5 split of Omniglot's alphabets, 26 x 26. `--config.episodes.num_support=1` or 8 for the
paper's other memories (figure 4B).

Time: 82 h on one CPU core; an estimated 20 min on a GPU.
"""

from experiments.configs import default


def get_config():
    config = default.get_config()
    config.dataset.update(name="omniglot_26x26", binarization="threshold")
    config.dataset.update(train_split="fewshot_train", eval_split="fewshot_test")
    default.set_episodes(config, name="few_shot", num_classes=8, num_support=4, num_queries=4)
    config.eval.num_batches = 16
    config.model = {"name": "vma.VMA", "num_samples": 4, "address_estimator": "auto"}
    config.model.update(latent_size=64, hidden_sizes=(128,), num_filters=64, embedding_size=128)
    config.model.update(similarity="key_normalized", tied_embeddings=True, address_prior="learned")
    config.training.num_steps = 200_000
    return config
