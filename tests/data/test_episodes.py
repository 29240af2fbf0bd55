import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax import data
from memjax.errors import UserError


@pytest.fixture(scope="module")
def arrays():
    """60 images of 4 classes of different sizes; image i is all i, its label negative for none."""
    images = np.broadcast_to(np.arange(60, dtype=np.uint8)[:, None, None, None], (60, 3, 2, 1))
    labels = np.repeat([0, 1, 2, 3], [10, 20, 12, 18])
    return data.ImageArrays.create(images, labels)


def keys(count):
    return jax.random.split(jax.random.key(0), count)


def test_classes_are_tabulated(arrays):
    assert arrays.smallest_class == 10
    np.testing.assert_array_equal(arrays.class_sizes, [10, 20, 12, 18])
    np.testing.assert_array_equal(arrays.class_members[2, :12], np.arange(30, 42))


def test_unlabelled_images_have_no_classes():
    arrays = data.ImageArrays.create(np.zeros((5, 1, 1, 1), np.uint8), np.full(5, -1))
    assert arrays.class_sizes.shape == (0,) and arrays.smallest_class == 0
    with pytest.raises(UserError, match="num_classes is 1; the data set has 0"):
        data.few_shot(jax.random.key(0), arrays, num_classes=1, num_support=1, num_queries=1)


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


def test_gather_fetches_images_in_unit_range(arrays):
    indices = data.recall(jax.random.key(0), arrays, num_slots=5, batch_size=4)
    episode = jax.jit(data.gather)(arrays, indices)
    assert episode.query.dtype == jnp.float32
    np.testing.assert_allclose(episode.query[:, 0, 0, 0] * 255, indices.query, rtol=1e-6)
    np.testing.assert_array_equal(episode.query, episode.support[indices.query_addresses])
    np.testing.assert_array_equal(episode.support_labels, arrays.labels[indices.support])


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


def test_binarization_has_the_pixels_probabilities():
    levels = np.array([0, 1, 64, 128, 254, 255], np.uint8)
    images = jnp.broadcast_to(levels, (4_000, 2, 3, 6))
    binary = data.binarize(jax.random.key(0), images, jnp.arange(4_000))
    assert set(np.unique(binary)) == {0, 255}
    means = np.asarray(binary, np.float64).mean(axis=(0, 1, 2)) / 255
    np.testing.assert_allclose(means, levels / 255, atol=0.012)
    assert means[0] == 0 and means[-1] == 1


def test_binarization_follows_from_epoch_and_index_alone():
    image, key = jnp.full((6, 8, 8, 1), 128, jnp.uint8), jax.random.key(0)
    binarize = jax.jit(data.binarize)
    all_images = binarize(key, image, jnp.arange(6), 3)
    some = binarize(key, image[:2], jnp.array([4, 1]), 3)
    np.testing.assert_array_equal(some, all_images[jnp.array([4, 1])])
    assert np.any(all_images[0] != all_images[1])
    assert np.any(binarize(key, image, jnp.arange(6), 4) != all_images)


def test_dynamic_binarization_is_the_same_for_a_query_and_its_slot():
    arrays = data.ImageArrays.create(np.full((40, 4, 4, 1), 100, np.uint8), np.zeros(40, np.int32))
    indices = data.recall(jax.random.key(0), arrays, num_slots=10, batch_size=6)
    episode = data.gather(arrays, indices, jax.random.key(1), epoch=2)
    np.testing.assert_array_equal(episode.query, episode.support[indices.query_addresses])
    assert len(np.unique(np.asarray(episode.support).reshape(10, -1), axis=0)) > 1


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
