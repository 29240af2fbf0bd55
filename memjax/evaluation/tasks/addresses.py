"""Where q(a|x) looks in a memory of unseen classes; VMA figure 3."""

import jax
import numpy as np
import scipy.special

from memjax import models
from memjax.evaluation.few_shot import draw, limits
from memjax.evaluation.options import cut, up_to
from memjax.evaluation.report import Curves, Report
from memjax.evaluation.run import Run

NEEDS = models.AddressesSupport

_TOP = 5


def evaluate(
    run: Run,
    *,
    num_classes: int = up_to(8),
    num_shots: int = up_to(10),
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
    rng_key = jax.random.key(seed)
    most_classes, most_shots = limits(run)
    num_classes, num_shots = cut(num_classes, most_classes), cut(num_shots, most_shots)
    queries, support, labels, slot_labels = draw(run, rng_key, num_classes, num_shots)
    memory = run.write(rng_key, support)
    logits = run.map("address_logits", rng_key, queries[:num_queries], memory)
    posterior = scipy.special.softmax(np.asarray(logits, np.float64), axis=1)
    table, panels, rows = [], {}, {}
    borders = (np.flatnonzero(np.diff(slot_labels)) + 0.5).tolist()  # between classes
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
        line = (range(len(probs)), list(probs))
        panels[name] = Curves("slot", "q(a|x)", {"": line}, borders=borders)
        rows[f"{name}, top slots"] = np.stack([queries[i], *np.asarray(support)[top]])
    return Report(table, grids={"addresses_top": rows}, curves={"addresses": panels})
