"""MEM-VAE on OCR letters (section 5.1 of its paper): 200-200-50, 70 and 30 slots, 3,000 epochs.

Samples, the twin VAE and shorter runs: as in `mem_vae_mnist`.

Time: 2.2 h on one CPU core; an estimated 16 min on a GPU.
"""

from experiments.configs import mem_vae_mnist


def get_config():
    config = mem_vae_mnist.get_config()
    config.dataset.update(name="ocr_letters", binarization="none")  # they are binary
    config.model.update(hidden_sizes=(200, 200), latent_size=50)
    mem_vae_mnist.set_epochs(config, steps=321, log_every=10, eval_every=50)
    return config
