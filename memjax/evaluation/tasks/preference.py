"""Which slots of a learned memory are read for which class of images; MEM-VAE's figure 3."""

import jax
import numpy as np

from memjax import models
from memjax.errors import UserError
from memjax.evaluation.report import Report
from memjax.evaluation.run import Run

NEEDS = models.HasLayerSlots


def evaluate(run: Run, *, seed: int = 0) -> Report:
    """The mean activation of each slot over the held-out images of a class, in shares of one.

    Pictures: the shares, a row for each class and a column for each slot; the correlations of these
    rows. The table names, for each class, the slot that is read most and the most similar class.

    Args:
      run: the trained run of a model with `slot_activations`.
      seed: of the latents.

    Raises:
      UserError: a model without slots, a data set without classes.
    """
    shares = class_preferences(run, "preference", seed)
    table, correlations = [], {}
    for layer, matrix in shares.items():
        correlation = correlations[layer] = np.corrcoef(matrix)
        others = np.where(np.eye(len(matrix), dtype=bool), -np.inf, correlation)
        for i, row in enumerate(matrix):
            table.append(
                {
                    "layer": layer,
                    "class": i,
                    "slot": int(np.argmax(row)),
                    "share": float(np.max(row)),
                    "nearest_class": int(np.argmax(others[i])),
                    "correlation": float(np.max(others[i])),
                }
            )
    matrices = {"preference": shares, "preference_correlation": correlations}
    axes = {"preference": ("slot", "class"), "preference_correlation": ("class", "class")}
    return Report(table, matrices=matrices, axes=axes)


def class_preferences(run: Run, task: str, seed: int) -> dict[str, np.ndarray]:
    """By layer, the slots' mean activations over each class, `[classes, N]`, of sum one.

    Args:
      run: the trained run.
      task: who asks, for the error.
      seed: of the latents.

    Raises:
      UserError: a model without slots, a data set without classes.
    """
    arrays = run.experiment.eval.arrays
    labels = np.asarray(arrays.labels)
    classes = np.unique(labels[labels >= 0])
    if len(classes) < 2:
        raise UserError(f"task {task} needs images of several classes; these have {len(classes)}")
    activations = run.map_images("slot_activations", jax.random.key(seed), arrays.images)
    means = {
        layer: np.stack([weights[labels == c].mean(axis=0) for c in classes])
        for layer, weights in activations.items()
    }
    return {layer: mean / mean.sum(axis=1, keepdims=True) for layer, mean in means.items()}
