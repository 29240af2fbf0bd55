"""Train to recall (VMA section 4.1, figure 2A): the queries are images that the memory holds.

An optimal model's NLL is log(num_slots), that of a look-up table.

Time: 3 min on one CPU core; an estimated 10 s on a GPU.
"""

from experiments.configs import vma_digits_recall


def get_config():
    config = vma_digits_recall.get_config()
    config.dataset.name = "mnist"
    config.episodes.num_slots = 256
    config.model.update(latent_size=32, hidden_sizes=(256, 128), embedding_size=128)
    config.model.update(similarity="key_normalized", tied_embeddings=True, address_prior="learned")
    return config
