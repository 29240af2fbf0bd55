from functools import partial

import numpy as np
import pytest
import scipy.special

from memjax import data
from memjax.errors import UserError
from memjax.evaluation import load_run
from memjax.evaluation.tasks import recall
from memjax.training import build, train
from tests.conftest import make_vma_config
from tests.evaluation.conftest import make_own_run
from tests.evaluation.own_model import AddressedFlips


def test_no_nll_below_that_of_a_lookup_table(own_recall_run):
    """By a model whose NLL is known: a query's pixels are its slot's with probability 0.95."""
    few, all_images = own_recall_run.task("recall", num_slots=(4, 297), num_memories=2).table
    for row in (few, all_images):
        assert row["floor"] <= np.log(row["num_slots"]) + 1e-6
        assert row["excess"] == pytest.approx(row["nll"] - row["floor"]) and row["excess"] > 0
    images = np.asarray(own_recall_run.experiment.eval.arrays.images).reshape(297, -1)
    flips = np.sum(images[:, None] != images[None], axis=2)
    log_joint = flips * np.log(0.05) + (64 - flips) * np.log(0.95) - np.log(297)
    exact = -np.mean(scipy.special.logsumexp(log_joint, axis=1))
    assert all_images["nll"] == pytest.approx(exact, rel=1e-5)


def test_a_density_has_no_floor():
    class Density(AddressedFlips):
        likelihood: str = "gaussian"

    run = make_own_run(Density, partial(data.recall, num_slots=16, batch_size=8))
    (row,) = run.task("recall", num_slots=4, num_memories=1).table
    assert row.keys() & {"nll", "floor", "excess"} == {"nll"}


@pytest.mark.slow
def test_a_trained_model_recalls_and_no_better_than_a_lookup_table(tmp_path):
    config = make_vma_config()
    config.model.tied_embeddings = True  # finds its slots whatever the machine's rounding
    config.optimizer.learning_rate = 1e-2
    config.training.num_steps = config.training.eval_every = config.training.log_every = 1_000
    config.training.checkpoint_every = 1_000
    train(build(config), tmp_path)
    run = load_run(tmp_path)
    assert run.step == 1_000
    # 4 samples make a noisy bound of one image: the mean over 40 queries or more is what counts.
    table = run.task("recall", num_slots=4, num_memories=40).table
    table += run.task("recall", num_slots=297, num_memories=3).table
    assert all(row["excess"] > -0.15 for row in table)
    assert table[0]["nll"] < 5  # far below the 26 nats of a VAE: it does recall


@pytest.mark.slow
def test_accuracy_is_that_of_the_most_probable_address(vma_run):
    one, many = vma_run.task("recall", num_slots=(1, 64), num_memories=2).table
    assert one["accuracy"] == 1.0
    assert 0.5 < many["accuracy"] <= 1.0


def test_pictures_show_queries_beside_what_was_retrieved(vma_run):
    grid = vma_run.task("recall", num_slots=64, num_memories=2).grids["recall"]
    assert list(grid) == ["query", "read slot", "reconstruction"]
    assert all(images.shape == (10, 8, 8, 1) for images in grid.values())


def test_the_same_seed_gives_the_same_table(own_recall_run):
    options = {"num_slots": 4, "num_memories": 2}
    first, again = (own_recall_run.task("recall", **options, seed=3) for _ in range(2))
    assert first.table == again.table
    assert own_recall_run.task("recall", **options, seed=4).table != first.table


def test_lookup_table_nll_counts_distinct_images():
    images = np.zeros((8, 2, 2, 1))
    assert recall.lookup_table_nll(images) == 0
    images[:4] = np.arange(16).reshape(4, 2, 2, 1) + 1  # 4 of their own, 4 that are the same
    expected = -4 * (1 / 8) * np.log(1 / 8) - 0.5 * np.log(0.5)
    assert recall.lookup_table_nll(images) == pytest.approx(expected)
    assert recall.lookup_table_nll(np.arange(32).reshape(8, 2, 2, 1)) == pytest.approx(np.log(8))


@pytest.mark.parametrize("num_slots", [0, 298, (16, 1000)])
def test_impossible_memories_are_refused(own_recall_run, num_slots):
    with pytest.raises(UserError, match="it must be between 1 and 297"):
        own_recall_run.task("recall", num_slots=num_slots, num_memories=1)
