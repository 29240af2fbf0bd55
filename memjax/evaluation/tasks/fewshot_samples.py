"""Images generated from single slots: one-shot (VMA figure 4A), or learned slots (figure 2B)."""

from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from memjax import models
from memjax.errors import UserError
from memjax.evaluation.few_shot import check_few_shot, draw, limits
from memjax.evaluation.options import cut, up_to
from memjax.evaluation.report import Report
from memjax.evaluation.run import Run

NEEDS = None


def evaluate(run: Run, *, num_rows: int = up_to(8), num_columns: int = 10, seed: int = 0) -> Report:
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
    slots: chex.Array
    learned = models.does(run.model, models.AddressesSlots)
    if learned:
        memory = run.write(episode_rng_key, None)
        num_slots = _num_slots(run, episode_rng_key, memory)
        num_rows = cut(num_rows, num_slots)
        if num_rows > num_slots:
            raise UserError(f"num_rows is {num_rows}; the memory has {num_slots} slots")

        def generate(rng_key, address):
            return run.model.apply(run.variables, rng_key, memory, address, method="generate_at")

        slots = jnp.arange(num_rows)
    else:
        check_few_shot(run, "fewshot_samples")
        num_rows = cut(num_rows, limits(run)[0])

        def generate(rng_key, image):
            memory = run.model.apply(run.variables, rng_key, image[None], method="write")
            return run.model.apply(run.variables, rng_key, memory, method="generate")

        _, slots, _, _ = draw(run, episode_rng_key, num_rows, 1)
    rng_keys = jax.random.split(sample_rng_key, (num_rows, num_columns))
    samples = jax.jit(jax.vmap(jax.vmap(generate, in_axes=(0, None))))(rng_keys, slots)
    if not learned:
        samples = jnp.concatenate([slots[:, None], samples], axis=1)
    name = "slot {}" if learned else "slot {}, samples"
    rows = {name.format(i): np.asarray(row) for i, row in enumerate(samples)}
    return Report(
        [{"step": run.step, "slots": num_rows, "images": num_columns}], {"fewshot_samples": rows}
    )


def _num_slots(run: Run, rng_key: chex.PRNGKey, memory: Any) -> int:
    """How many slots the model has addresses for."""
    query = jnp.zeros(run.experiment.eval.arrays.images.shape[1:])
    ask = partial(run.model.apply, run.variables, method="address_logits")
    return len(jax.eval_shape(ask, rng_key, query, memory))
