"""What a task just allows, and how much of it there then is, of models made up here."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest

from memjax import data
from memjax.errors import UserError
from memjax.evaluation.tasks import fewshot_samples, preference, probe, samples, slots
from tests.evaluation.fakes import CLASSES, class_of, make_run


@pytest.mark.parametrize(
    "sampler", [None, partial(data.unstructured, num_episodes=2, episode_length=5)]
)
def test_samples_are_as_many_as_rows_and_columns(sampler):
    """And reconstructions are of single images, or of an episode's."""
    run = make_run(
        sampler,
        generate=lambda rng_key, memory: jnp.ones((4, 7, 2)),
        explain=lambda rng_key, query, memory: {"query": query},
    )
    report = samples.evaluate(run, num_rows=2, num_columns=3)
    assert report.table == [{"step": 3, "images": 6}]
    assert [row.shape for row in report.grids["samples"].values()] == [(3, 4, 7, 2)] * 2
    queries = run.fetched[0].query
    queries = queries if sampler is None else queries[0]
    np.testing.assert_array_equal(report.grids["reconstructions"]["query"], queries[:3])


def learned_slots(num_slots):
    """Slots whose images are full of their numbers."""
    return {
        "addresses_support": False,
        "write": lambda rng_key, support: jnp.arange(num_slots),
        "generate_at": lambda rng_key, memory, address: jnp.full((4, 7, 2), memory[address]),
        "address_logits": lambda rng_key, query, memory: memory,
        "address_log_weights": print,
    }


def test_every_learned_slot_can_be_generated_from_and_no_more():
    run = make_run(**learned_slots(3))
    report = fewshot_samples.evaluate(run, num_rows=3, num_columns=2)
    for i, row in enumerate(report.grids["fewshot_samples"].values()):
        np.testing.assert_array_equal(row, np.full((2, 4, 7, 2), i))
    assert fewshot_samples.evaluate(run, num_columns=2).table[0]["slots"] == 3
    with pytest.raises(UserError, match="num_rows is 4; the memory has 3 slots"):
        fewshot_samples.evaluate(run, num_rows=4)


def test_two_classes_and_one_slot_are_enough():
    """Each class reads its own slot three times as much as the other's."""

    def activations(rng_key, query, memory):
        return {"layer 1": 2.0 * jnp.eye(2)[class_of(query)] + 1.0}

    run = make_run(
        num_classes=2,
        num_slots=(2,),
        composition="sum",
        slot_activations=activations,
        slot_images=lambda layer: jnp.arange(2.0)[:, None, None, None] * jnp.ones((2, 4, 7, 2)),
    )
    shares = preference.evaluate(run).matrices["preference"]["layer 1"]
    np.testing.assert_allclose(shares, [[0.75, 0.25], [0.25, 0.75]])
    assert [row["rank"] for row in slots.evaluate(run).table] == [1, 2]
    report = slots.evaluate(run, num_slots=1)
    assert report.table == [{"layer": 1, "rank": 1, "0": 0.75, "1": 0.75}]
    (grid,) = report.grids["slots_layer_1"].values()
    assert grid[:, 0, 0, 0].tolist() == [0.0, 1.0]


def test_the_svm_is_regularised_by_the_mean_loss(monkeypatch):
    from sklearn.svm import LinearSVC

    made = []

    def make(C, random_state):
        made.append(C)
        return LinearSVC(C=C, random_state=random_state)

    monkeypatch.setattr("sklearn.svm.LinearSVC", make)
    run = make_run(features=lambda rng_key, image, memory: jnp.eye(CLASSES)[class_of(image)])
    (row,) = probe.evaluate(run, regularization=0.1).table
    assert made == [pytest.approx(1 / (0.1 * 48))]
    assert row == {"classes": 6, "features": 6, "train_accuracy": 1.0, "accuracy": 1.0}
    few = make_run(num_classes=2, **vars(run.model))
    assert probe.evaluate(few, regularization=0.1).table[0]["classes"] == 2
