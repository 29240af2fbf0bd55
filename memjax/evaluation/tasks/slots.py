"""Slots of a learned memory mapped to images; MEM-VAE's appendix D, table 4 and figure 7."""

import numpy as np

from memjax import models
from memjax.errors import UserError
from memjax.evaluation.options import cut, up_to
from memjax.evaluation.report import Report
from memjax.evaluation.run import Run
from memjax.evaluation.tasks.preference import class_preferences

NEEDS = models.HasLayerSlots


def evaluate(run: Run, *, num_slots: int = up_to(3), seed: int = 0) -> Report:
    """For each class, the slots that are read most, and what each alone decodes to.

    Only a sum keeps a slot what it is: other compositions are refused, as in the paper.

    Args:
      run: the trained run of a model with slots that are added.
      num_slots: of each layer and class.
      seed: of the latents that slots are read for.

    Raises:
      UserError: a model without slots or with another composition, a data set without classes,
        more slots than there are.
    """
    if run.model.composition != "sum":
        raise UserError(
            f"task slots needs model.composition 'sum'; this run's is {run.model.composition!r}"
        )
    shares = class_preferences(run, "slots", seed)
    fewest = min(matrix.shape[1] for matrix in shares.values())
    num_slots = cut(num_slots, fewest)
    if not 1 <= num_slots <= fewest:
        raise UserError(f"num_slots is {num_slots}; it must be between 1 and {fewest}")
    table, grids = [], {}
    for name, matrix in shares.items():
        layer = int(name.removeprefix("layer "))
        images = np.asarray(run.model.apply(run.variables, layer, method="slot_images"))
        ranked = np.argsort(-matrix, axis=1)[:, :num_slots]
        for rank in range(num_slots):
            row = matrix[np.arange(len(matrix)), ranked[:, rank]]
            table.append(
                {"layer": layer, "rank": rank + 1} | {str(c): float(v) for c, v in enumerate(row)}
            )
        grids[f"slots_layer_{layer}"] = {
            f"rank {rank + 1}": images[ranked[:, rank]] for rank in range(num_slots)
        }
    return Report(table, grids)
