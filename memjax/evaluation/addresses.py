"""Where q(a|x) looks in a memory of unseen classes; VMA figure 3."""

import jax
import numpy as np
import scipy.special

from memjax.evaluation.few_shot import draw
from memjax.evaluation.run import Curves, Report, Run

_TOP = 5


def evaluate(
    run: Run,
    *,
    num_classes: int = 8,
    num_shots: int = 10,
    num_queries: int = 4,
    seed: int = 0,
) -> Report:
    """Histograms of q(a|x) for held-out images, and the slots that it finds most probable.

    Args:
      run: the trained run of a model that addresses the support.
      num_classes: classes in memory.
      num_shots: images of each, side by side in the memory.
      num_queries: images asked about, at most one of each class.
      seed: of the episode.

    Raises:
      UserError: a model without addresses of the support, or an episode the data set can't fill.
    """
    run.require_addresses("addresses")
    rng_key = jax.random.key(seed)
    queries, support, labels, slot_labels = draw(run, rng_key, num_classes, num_shots)
    logits = run.map("address_logits", rng_key, queries[:num_queries], support)
    posterior = scipy.special.softmax(np.asarray(logits, np.float64), axis=1)
    table, panels, rows = [], {}, {}
    for i, probs in enumerate(posterior):
        top = np.argsort(-probs)[:_TOP]
        own = slot_labels == labels[i]
        name = f"query {i}"
        table.append(
            {
                "query": i,
                "slots": f"{np.argmax(own)} to {np.argmax(own) + num_shots - 1}",
                "probability of them": float(np.sum(probs[own])),
                "entropy": float(-np.sum(probs * np.log(np.maximum(probs, 1e-300)))),
                "top slots": " ".join(map(str, top)),
            }
        )
        panels[name] = Curves("slot", "q(a|x)", {name: (range(len(probs)), list(probs))})
        rows[name] = np.stack([queries[i], *np.asarray(support)[top]])
    return Report(table, grids={"addresses_top": rows}, curves={"addresses": panels})
