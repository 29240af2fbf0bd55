import chex
import jax
import numpy as np
import pytest

from memjax import data
from memjax.errors import UserError


def keys(count):
    return jax.random.split(jax.random.key(0), count)


def test_minibatch_is_uniform(arrays):
    draw = jax.vmap(lambda k: data.minibatch(k, arrays, batch_size=8).query)(keys(3_000))
    counts = np.bincount(np.ravel(draw), minlength=60)
    expected = 24_000 / 60
    assert np.sum((counts - expected) ** 2 / expected) < 100  # chi-squared, 59 degrees of freedom


def test_recall_asks_for_what_the_memory_holds(arrays):
    for key in keys(20):
        indices = data.recall(key, arrays, num_slots=30, batch_size=16)
        assert len(np.unique(indices.support)) == 30
        np.testing.assert_array_equal(indices.query, indices.support[indices.query_addresses])
    assert len(np.unique(data.recall(key, arrays, num_slots=60, batch_size=1).support)) == 60
    single = data.recall(key, arrays, num_slots=1, batch_size=3)
    np.testing.assert_array_equal(single.query_addresses, [0, 0, 0])


def test_few_shot_queries_and_support_are_disjoint(arrays):
    labels = np.repeat([0, 1, 2, 3], [10, 20, 12, 18])
    seen = np.zeros(60)
    for key in keys(50):
        indices = data.few_shot(key, arrays, num_classes=3, num_support=4, num_queries=6)
        chex.assert_shape(indices.query, (18,))
        chex.assert_shape(indices.support, (12,))
        drawn = np.concatenate([indices.query, indices.support])
        assert len(np.unique(drawn)) == 30
        support_labels = labels[np.asarray(indices.support)].reshape(3, 4)
        query_labels = labels[np.asarray(indices.query)].reshape(3, 6)
        assert len(np.unique(support_labels[:, 0])) == 3
        for row in range(3):
            assert set(support_labels[row]) == set(query_labels[row])
            assert len(set(support_labels[row])) == 1
        seen[drawn] += 1
    assert np.all(seen > 0)


def test_unstructured_has_whole_episodes_as_queries(arrays):
    indices = data.unstructured(jax.random.key(0), arrays, num_episodes=5, episode_length=7)
    chex.assert_shape(indices.query, (5, 7))
    episode = data.gather(arrays, indices)
    chex.assert_shape(episode.query, (5, 7, 3, 2, 1))
    assert episode.support is None and episode.support_labels is None


@pytest.mark.parametrize("population,count", [(10, 10), (5_000, 5_000), (60_000, 256), (4_097, 1)])
def test_sampling_without_replacement_is_distinct(population, count):
    for key in keys(5):
        drawn = data.sample_without_replacement(key, population, count)
        assert len(np.unique(drawn)) == count
        assert drawn.min() >= 0 and drawn.max() < population


def test_sampling_without_replacement_is_uniform_in_every_place():
    draw = jax.jit(jax.vmap(lambda k: data.sample_without_replacement(k, 5_000, 300)))
    drawn = np.asarray(draw(keys(2_000)))
    for place in (0, 299):
        counts = np.bincount(drawn[:, place] // 500, minlength=10)
        assert np.sum((counts - 200) ** 2 / 200) < 35  # chi-squared, 9 degrees of freedom
    assert abs(np.mean(np.diff(drawn, axis=1) > 0) - 0.5) < 0.01  # in no order


def test_impossible_episodes_are_refused(arrays):
    key = jax.random.key(0)
    with pytest.raises(UserError, match="num_slots is 0; it must be at least 1"):
        data.recall(key, arrays, num_slots=0, batch_size=1)
    with pytest.raises(UserError, match="num_slots is 61; the data set has 60 images"):
        data.recall(key, arrays, num_slots=61, batch_size=1)
    with pytest.raises(UserError, match="num_classes is 5; the data set has 4"):
        data.few_shot(key, arrays, num_classes=5, num_support=1, num_queries=1)
    with pytest.raises(UserError, match=r"is 11; the smallest class of the data set has 10"):
        data.few_shot(key, arrays, num_classes=2, num_support=10, num_queries=1)


def test_samplers_trace_once(arrays):
    @jax.jit
    @chex.assert_max_traces(n=1)
    def episode(key):
        return data.gather(arrays, data.recall(key, arrays, num_slots=8, batch_size=4))

    for key in keys(3):
        episode(key)


def test_few_classes_draws_evenly_from_as_many_classes(arrays):
    labels = np.repeat([0, 1, 2, 3], [10, 20, 12, 18])
    draw = jax.jit(
        lambda k: data.few_classes(k, arrays, num_episodes=3_000, episode_length=30, num_classes=2)
    )
    drawn = np.asarray(draw(jax.random.key(0)).query)
    assert drawn.shape == (3_000, 30)
    assert all(len(np.unique(labels[episode])) == 2 for episode in drawn)
    counts = np.bincount(labels[drawn].ravel(), minlength=4) / drawn.size
    np.testing.assert_allclose(counts, 0.25, atol=0.03)
    assert len(np.unique(drawn)) == 60
    with pytest.raises(UserError, match="num_classes is 5; the data set has 4"):
        data.few_classes(jax.random.key(0), arrays, num_episodes=1, episode_length=1, num_classes=5)


def test_an_episode_longer_than_the_data_is_refused(arrays):
    with pytest.raises(UserError, match="episode_length is 61; the data set has 60 images"):
        data.unstructured(jax.random.key(0), arrays, num_episodes=1, episode_length=61)
