"""Generated images without what the decoder's memories add; MEM-VAE's appendix C and figure 6."""

import jax
import numpy as np

from memjax import models
from memjax.errors import check_at_least_one
from memjax.evaluation.report import Report
from memjax.evaluation.run import Run

NEEDS = models.HasLayerSlots

_PICTURES = 10


def evaluate(run: Run, *, num_images: int = 100, seed: int = 0) -> Report:
    """Decodes the same latents with all memories, without layer 1's, without those of 1 and 2, ...

    What is read from a disabled memory is a vector of ones. `change` is the mean absolute
    difference of a pixel from the whole model's.

    Args:
      run: the trained run of a model with slots.
      num_images: how many latents to draw.
      seed: of the latents.

    Raises:
      UserError: a model without slots, no images.
    """
    check_at_least_one(num_images=num_images)

    def generate(num_disabled: int) -> np.ndarray:
        rng_key = jax.random.key(seed)
        memory = run.write(rng_key, None)
        options = {"num_disabled": num_disabled}
        return np.asarray(run.sample("generate", rng_key, num_images, memory, **options))

    images = {"whole": generate(0)}
    for layer, num_slots in enumerate(run.model.num_slots, 1):
        if num_slots:
            name = "without layer 1" if layer == 1 else f"without layers 1 to {layer}"
            images[name] = generate(layer)
    table = [
        {"memories": name, "change": float(np.mean(np.abs(changed - images["whole"])))}
        for name, changed in images.items()
    ]
    return Report(table, {"disable_memory": {k: v[:_PICTURES] for k, v in images.items()}})
