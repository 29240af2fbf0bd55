import numpy as np
import pytest

from memjax.errors import UserError
from memjax.evaluation import recall


def test_no_nll_below_that_of_a_lookup_table(recall_run):
    # 4 samples make a noisy bound of one image: the mean over 40 queries or more is what counts.
    table = recall.evaluate(recall_run, num_slots=4, num_memories=40).table
    table += recall.evaluate(recall_run, num_slots=297, num_memories=3).table
    for row in table:
        assert row["floor"] <= np.log(row["num_slots"]) + 1e-6
        assert row["excess"] == pytest.approx(row["nll"] - row["floor"])
        assert row["excess"] > -0.15
    assert [row["num_slots"] for row in table] == [4, 297]
    assert table[0]["nll"] < 5  # far below the 26 nats of a VAE: it does recall


def test_accuracy_is_that_of_the_most_probable_address(recall_run):
    one, many = recall.evaluate(recall_run, num_slots=(1, 64), num_memories=2).table
    assert one["accuracy"] == 1.0
    assert 0.5 < many["accuracy"] <= 1.0


def test_pictures_show_queries_beside_what_was_retrieved(recall_run):
    grid = recall.evaluate(recall_run, num_slots=16, num_memories=1).grids["recall"]
    assert list(grid) == ["query", "read slot", "reconstruction"]
    assert all(images.shape == (10, 8, 8, 1) for images in grid.values())


def test_the_same_seed_gives_the_same_table(recall_run):
    first, again = (recall.evaluate(recall_run, num_slots=8, seed=3) for _ in range(2))
    assert first.table == again.table
    assert recall.evaluate(recall_run, num_slots=8, seed=4).table != first.table


def test_lookup_table_nll_counts_distinct_images():
    images = np.zeros((8, 2, 2, 1))
    assert recall.lookup_table_nll(images) == 0
    images[:4] = np.arange(16).reshape(4, 2, 2, 1) + 1  # 4 of their own, 4 that are the same
    expected = -4 * (1 / 8) * np.log(1 / 8) - 0.5 * np.log(0.5)
    assert recall.lookup_table_nll(images) == pytest.approx(expected)
    assert recall.lookup_table_nll(np.arange(32).reshape(8, 2, 2, 1)) == pytest.approx(np.log(8))


@pytest.mark.parametrize("num_slots", [0, 298, (16, 1000)])
def test_impossible_memories_are_refused(recall_run, num_slots):
    with pytest.raises(UserError, match="it must be between 1 and 297"):
        recall.evaluate(recall_run, num_slots=num_slots)


def test_a_model_without_the_support_in_memory_is_refused(bare_vae_run):
    with pytest.raises(UserError, match=r"needs a model that addresses the support.*vae\.VAE"):
        recall.evaluate(bare_vae_run)
