"""The tasks that draw few-shot episodes: classify, confounders, table1, addresses, samples."""

import jax
import numpy as np
import pytest
import scipy.special

from memjax.errors import UserError
from memjax.evaluation import few_shot, load_run
from memjax.evaluation.tasks import (
    classify,
    confounders,
    fewshot_samples,
    table1,
)
from memjax.training import build, train
from tests.evaluation.conftest import make_few_shot_config


def test_queries_are_of_the_support_classes_and_not_in_it(few_shot_run):
    queries, support, labels, slot_labels = few_shot.draw(few_shot_run, jax.random.key(0), 7, 3)
    arrays = few_shot_run.experiment.eval.arrays
    images = np.asarray(arrays.images, np.float32) / 255
    assert queries.shape == (7, 8, 8, 1) and support.shape == (21, 8, 8, 1)

    def digit(image):
        return {int(arrays.labels[i]) for i in np.flatnonzero((images == image).all((1, 2, 3)))}

    by_class = [set.intersection(*map(digit, support[slot_labels == c])) for c in range(7)]
    for query, label in zip(queries, labels, strict=True):
        assert digit(query) & by_class[label]
        assert not np.any(np.all(support == query, axis=(1, 2, 3)))


@pytest.mark.slow
def test_classes_are_told_apart_better_than_by_chance(tmp_path):
    config = make_few_shot_config()
    config.optimizer.learning_rate = 3e-3
    config.training.num_steps = config.training.eval_every = config.training.log_every = 300
    config.training.checkpoint_every = 300
    train(build(config), tmp_path)
    table = classify.evaluate(load_run(tmp_path), ways=(2, 5), shots=2, num_queries=200).table
    assert [(row["ways"], row["shots"], row["queries"]) for row in table] == [
        (2, 2, 200),
        (5, 2, 200),
    ]
    for row in table:
        assert 1 >= row["accuracy by q(a|x)"] > 1 / row["ways"] + 0.1


@pytest.mark.slow
def test_the_exact_posterior_agrees_with_the_likelihood_by_importance_sampling(few_shot_run):
    queries, support, _, _ = few_shot.draw(few_shot_run, jax.random.key(0), 6, 1)
    rng_key = jax.random.key(1)
    memory = few_shot_run.write(rng_key, support)
    log_joint = classify.log_joint(few_shot_run, rng_key, queries, memory, 300)
    log_weights = few_shot_run.map("log_weights", rng_key, queries, memory, num_samples=2_000)
    assert log_joint.shape == (6, 6)
    expected = scipy.special.logsumexp(log_weights, axis=1) - np.log(2_000)
    np.testing.assert_allclose(scipy.special.logsumexp(log_joint, axis=1), expected, atol=0.5)
    (row,) = classify.evaluate(few_shot_run, ways=2, shots=1, num_queries=10, num_samples=5).table
    assert 0 <= row["accuracy by p(a|x)"] <= 1


def test_samples_stand_beside_the_slot_that_they_come_from(few_shot_run):
    grid = fewshot_samples.evaluate(few_shot_run, num_rows=3, num_columns=2).grids
    rows = grid["fewshot_samples"]
    assert [row.shape for row in rows.values()] == [(3, 8, 8, 1)] * 3
    assert all(set(np.unique(row[0])) <= {0, 1} for row in rows.values())


@pytest.mark.parametrize("name", ["confounders", "fewshot_samples", "table1"])
def test_other_runs_are_refused(name, own_run):
    with pytest.raises(
        UserError, match=rf"task {name} needs a run of episodes with a support, such"
    ):
        own_run.task(name)


def test_impossible_episodes_are_refused(few_shot_run):
    with pytest.raises(UserError, match="num_classes is 11; the data set has 10"):
        classify.evaluate(few_shot_run, ways=11)
    with pytest.raises(UserError, match=r"num_support \+ num_queries is 101; the smallest class"):
        table1.evaluate(few_shot_run, num_shots=100)
    with pytest.raises(UserError, match="num_support is 0; it must be at least 1"):
        confounders.evaluate(few_shot_run, num_classes=1, num_shots=0, num_queries=1)
