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
    options = {"num_classes": 3, "num_support": 4, "num_queries": 6}
    draw = jax.jit(lambda key: data.few_shot(key, arrays, **options))
    for key in keys(50):
        indices = draw(key)
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


def few_classes(arrays, num_episodes, episode_length, num_classes):
    """Drawn images [num_episodes, episode_length]."""
    sizes = {"episode_length": episode_length, "num_classes": num_classes}
    draw = jax.jit(lambda k: data.few_classes(k, arrays, num_episodes=num_episodes, **sizes))
    return np.asarray(draw(jax.random.key(0)).query)


def test_few_classes_draws_evenly_from_as_many_classes(arrays):
    drawn = few_classes(arrays, 3_000, 30, 2)
    labels = np.asarray(arrays.labels)
    assert drawn.shape == (3_000, 30)
    assert all(len(np.unique(labels[episode])) == 2 for episode in drawn)
    counts = np.bincount(labels[drawn].ravel(), minlength=4) / drawn.size
    np.testing.assert_allclose(counts, 0.25, atol=0.03)
    assert len(np.unique(drawn)) == 60
    with pytest.raises(UserError, match="num_classes is 5; the data set has 4"):
        data.few_classes(jax.random.key(0), arrays, num_episodes=1, episode_length=1, num_classes=5)


def test_few_classes_draws_each_image_of_a_class_once_before_any_again(arrays):
    for episode in few_classes(arrays, 200, 30, 2):
        for label, size in enumerate([10, 20, 12, 18]):
            members = episode[np.asarray(arrays.labels)[episode] == label]
            for start in range(0, len(members), size):
                once = members[start : start + size]
                assert len(np.unique(once)) == len(once)


@pytest.mark.parametrize(("num_classes", "same", "other"), [(2, 1 / 6, 1 / 12), (3, 1 / 9, 1 / 9)])
def test_few_classes_has_the_law_that_enumeration_gives(num_classes, same, other):
    """Episodes of 2 of 3, 2 and 1 images; a pair is of one class, or of two, as often as said."""
    labels = np.array([0, 0, 0, 1, 1, 2])
    arrays = data.ImageArrays.create(np.zeros((6, 1, 1, 1), np.uint8), labels)
    sizes = np.bincount(labels)[labels]
    law = np.zeros((6, 6))
    for i, j in np.ndindex(6, 6):
        if labels[i] != labels[j]:
            law[i, j] = other / sizes[i] / sizes[j]
        elif sizes[i] == 1:  # which is not enough: again
            law[i, j] = same
        elif i != j:
            law[i, j] = same / sizes[i] / (sizes[i] - 1)
    assert np.isclose(law.sum(), 1)
    drawn = few_classes(arrays, 40_000, 2, num_classes)
    assert_law(drawn @ [6, 1], law.ravel())


@pytest.mark.parametrize(("population", "length"), [(5, 3), (32, 2)])
def test_unstructured_has_the_law_that_enumeration_gives(population, length):
    """Each arrangement of distinct images is as likely; by a permutation, and by fewer draws."""
    arrays = data.ImageArrays.create(
        np.zeros((population, 1, 1, 1), np.uint8), np.full(population, -1)
    )
    draw = jax.jit(
        lambda k: data.unstructured(k, arrays, num_episodes=40_000, episode_length=length).query
    )
    drawn = np.asarray(draw(jax.random.key(0)))
    every = np.indices([population] * length).reshape(length, -1)
    is_distinct = np.array([len(set(arrangement)) == length for arrangement in every.T])
    places = drawn @ population ** np.arange(length)[::-1]
    assert_law(places, is_distinct / is_distinct.sum())


def assert_law(drawn, law):
    """That outcomes, places in `law`, are as often as it says: chi-squared, within 5 deviations."""
    counts = np.bincount(drawn, minlength=len(law))
    assert np.all(counts[law == 0] == 0)
    expected, degrees = len(drawn) * law[law > 0], np.sum(law > 0) - 1
    chi_squared = np.sum((counts[law > 0] - expected) ** 2 / expected)
    assert abs(chi_squared - degrees) < 5 * np.sqrt(2 * degrees)


def test_members_of_large_classes_are_distinct_and_uniform():
    """Where classes are too large to be sorted at each step."""
    labels = np.repeat([0, 1], [5_000, 6_000])
    arrays = data.ImageArrays.create(np.zeros((11_000, 1, 1, 1), np.uint8), labels)
    drawn = few_classes(arrays, 1_000, 60, 2)
    assert all(len(np.unique(episode)) == 60 for episode in drawn)
    for label, start, size in ((0, 0, 5_000), (1, 5_000, 6_000)):
        members = drawn[labels[drawn] == label] - start
        counts = np.bincount(members * 10 // size, minlength=10)
        expected = len(members) / 10
        assert np.sum((counts - expected) ** 2 / expected) < 35  # 9 degrees of freedom


def test_an_episode_longer_than_the_data_is_refused(arrays):
    with pytest.raises(UserError, match="episode_length is 61; the data set has 60 images"):
        data.unstructured(jax.random.key(0), arrays, num_episodes=1, episode_length=61)
