import dataclasses

import numpy as np
import pytest

from memjax import data
from memjax.errors import UserError
from memjax.evaluation.tasks import probe


def test_a_linear_svm_tells_digits_by_their_features(mem_vae_run):
    """Even by those of a random net, better than by chance."""
    (row,) = probe.evaluate(mem_vae_run, regularization=1e-3).table
    assert row["classes"] == 10 and row["features"] == 16
    assert 0.3 < row["accuracy"] <= row["train_accuracy"] <= 1.0


def with_labels(run, labels):
    arrays = data.ImageArrays.create(np.asarray(run.experiment.train.arrays.images), labels)
    stage = dataclasses.replace(run.experiment.train, arrays=arrays)
    return dataclasses.replace(run, experiment=dataclasses.replace(run.experiment, train=stage))


def test_labels_of_no_meaning_are_not_told(mem_vae_run):
    labels = np.random.default_rng(0).integers(0, 10, 1_500).astype(np.int32)
    (row,) = probe.evaluate(with_labels(mem_vae_run, labels), regularization=1e-1).table
    assert row["accuracy"] < 0.2


def test_what_can_not_be_classified_is_refused(mem_vae_run):
    with pytest.raises(UserError, match="regularization is 0; it must be above 0"):
        probe.evaluate(mem_vae_run, regularization=0)
    with pytest.raises(UserError, match="needs images of several classes; these have 1"):
        probe.evaluate(with_labels(mem_vae_run, np.zeros(1_500, np.int32)))
