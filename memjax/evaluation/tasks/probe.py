"""Classification of the recognition net's features by a linear SVM; MEM-VAE's appendix A."""

import jax
import numpy as np

from memjax import models
from memjax.errors import UserError
from memjax.evaluation.report import Report
from memjax.evaluation.run import Run

NEEDS = models.HasFeatures


def evaluate(run: Run, *, regularization: float = 1e-4, seed: int = 0) -> Report:
    """Accuracy on held-out features of an SVM that is fitted to the training images' features.

    Features are of the images' grey levels, and scaled to variance 1. The SVM is one for each
    class, min_w regularization / 2 |w|^2 + mean squared hinge loss.

    Args:
      run: the trained run of a model that has `features`.
      regularization: of the SVM, above 0.
      seed: of the SVM's coordinate descent.

    Raises:
      UserError: a model without features, a data set without classes, no regularization.
    """
    # Slow to import, and of no use to other tasks.
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    if not regularization > 0:
        raise UserError(f"regularization is {regularization}; it must be above 0")
    train, test = run.experiment.train.arrays, run.experiment.eval.arrays
    num_classes = len(train.class_sizes)
    if num_classes < 2:
        raise UserError(f"task probe needs images of several classes; these have {num_classes}")
    train_features, test_features = (
        run.map_images("features", jax.random.key(seed), arrays.images) for arrays in (train, test)
    )
    svm = LinearSVC(C=1 / (regularization * len(train_features)), random_state=seed)
    classifier = make_pipeline(StandardScaler(), svm)
    classifier.fit(train_features, np.asarray(train.labels))
    row = {
        "classes": num_classes,
        "features": train_features.shape[1],
        "train_accuracy": classifier.score(train_features, np.asarray(train.labels)),
        "accuracy": classifier.score(test_features, np.asarray(test.labels)),
    }
    return Report([row])
