"""Images generated from single slots: one-shot (VMA figure 4A), or learned slots (figure 2B)."""

import jax
import jax.numpy as jnp
import numpy as np

from memjax.errors import UserError
from memjax.evaluation.few_shot import check_few_shot, draw
from memjax.evaluation.run import Report, Run


def evaluate(run: Run, *, num_rows: int = 8, num_columns: int = 10, seed: int = 0) -> Report:
    """A row of generated images for each slot.

    Where the memory holds the support, it holds one held-out image for each row, which comes
    first. Where it is learned, the rows are of the first slots.

    Args:
      run: the trained run of a model with a memory.
      num_rows: slots.
      num_columns: images generated from each.
      seed: of the episode and the samples.

    Raises:
      UserError: a run without a memory of either kind, or more rows than classes or slots.
    """
    episode_rng_key, sample_rng_key = jax.random.split(jax.random.key(seed))
    rng_keys = jax.random.split(sample_rng_key, (num_rows, num_columns))
    num_slots = run.experiment.config.model.get("num_slots")
    if num_slots and hasattr(run.model, "generate_at"):
        if num_rows > num_slots:
            raise UserError(f"num_rows is {num_rows}; the memory has {num_slots} slots")

        def generate(rng_key, address):
            return run.model.apply(run.variables, rng_key, None, address, method="generate_at")

        slots, first = jnp.arange(num_rows), None
    else:
        check_few_shot(run, "fewshot_samples")

        def generate(rng_key, image):
            return run.model.apply(run.variables, rng_key, image[None], method="generate")

        _, slots, _, _ = draw(run, episode_rng_key, num_rows, 1)
        first = slots
    samples = jax.jit(jax.vmap(jax.vmap(generate, in_axes=(0, None))))(rng_keys, slots)
    if first is not None:
        samples = jnp.concatenate([first[:, None], samples], axis=1)
    rows = {f"slot {i}": np.asarray(row) for i, row in enumerate(samples)}
    return Report(
        [{"step": run.step, "slots": num_rows, "images": num_columns}], {"fewshot_samples": rows}
    )
