"""How much of a learned memory is in use, and how far p(a) follows; VMA section 4.1."""

import jax
import numpy as np
import scipy.special

from memjax import models
from memjax.errors import UserError
from memjax.evaluation.options import cut, up_to
from memjax.evaluation.report import Curves, Report
from memjax.evaluation.run import Run

NEEDS = models.AddressesSlots

_BATCH = 512


def evaluate(run: Run, *, num_images: int = up_to(4096), seed: int = 0) -> Report:
    """q(a|x) over held-out images, in nats.

    `information` is I(x; a) = H(mean q(a|x)) - mean H(q(a|x)), what an address tells of its image;
    `kl_address` is that plus `kl_mean`, KL(mean q(a|x) || p(a)). So under a flat p(a) a large
    `kl_address` alone does not say that slots are in use. `slots_used` is exp H(mean q(a|x)).

    Args:
      run: the trained run of a model with a learned memory.
      num_images: of the evaluation split, in order.
      seed: of whatever the model draws.

    Raises:
      UserError: a model without addresses of learned slots, or more images than there are.
    """
    num_images = cut(num_images, run.num_images)
    if not 1 <= num_images <= run.num_images:
        raise UserError(f"num_images is {num_images}; it must be between 1 and {run.num_images}")
    rng_key = jax.random.key(seed)
    memory = run.write(rng_key, None)
    logits = [
        run.map("address_logits", rng_key, episode.query, memory)
        for episode in run.held_out(num_images, _BATCH)
    ]
    log_posterior = scipy.special.log_softmax(np.concatenate(logits).astype(np.float64), axis=1)
    log_prior = scipy.special.log_softmax(np.asarray(memory.prior_logits, np.float64))
    posterior = np.exp(log_posterior)
    mean = posterior.mean(axis=0)
    entropy = scipy.special.entr(mean).sum()
    row = {
        "images": num_images,
        "slots": len(mean),
        "slots_used": float(np.exp(entropy)),
        "information": float(entropy - scipy.special.entr(posterior).sum(axis=1).mean()),
        "kl_address": float(np.mean(np.sum(posterior * (log_posterior - log_prior), axis=1))),
        "kl_mean": float(scipy.special.rel_entr(mean, np.exp(log_prior)).sum()),
        "address_prior_entropy": float(scipy.special.entr(np.exp(log_prior)).sum()),
    }
    order, ranks = np.argsort(-mean), list(range(1, len(mean) + 1))
    lines = {"mean q(a|x)": mean[order], "p(a)": np.exp(log_prior)[order]}
    curves = Curves(
        "slot, the most read first",
        "probability",
        {k: (ranks, v.tolist()) for k, v in lines.items()},
    )
    return Report([row], curves={"usage": {"learned memory": curves}})
