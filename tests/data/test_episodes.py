import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax import data
from memjax.errors import UserError


def test_classes_are_tabulated(arrays):
    assert arrays.smallest_class == 10
    np.testing.assert_array_equal(arrays.class_sizes, [10, 20, 12, 18])
    np.testing.assert_array_equal(arrays.class_members[2, :12], np.arange(30, 42))


def test_unlabelled_images_have_no_classes():
    arrays = data.ImageArrays.create(np.zeros((5, 1, 1, 1), np.uint8), np.full(5, -1))
    assert arrays.class_sizes.shape == (0,) and arrays.smallest_class == 0
    with pytest.raises(UserError, match="num_classes is 1; the data set has 0"):
        data.few_shot(jax.random.key(0), arrays, num_classes=1, num_support=1, num_queries=1)


@pytest.mark.parametrize(
    ("images", "labels", "told"),
    [
        (np.zeros((5, 2, 2, 1)), np.zeros(5, int), "images is float64 [5, 2, 2, 1]; it must be"),
        (np.zeros((5, 2, 2), np.uint8), np.zeros(5, int), "images is uint8 [5, 2, 2]; it must be"),
        (np.zeros((5, 2, 2, 1), np.uint8), np.zeros(4, int), "integers of shape [5]"),
        (np.zeros((5, 2, 2, 1), np.uint8), np.zeros(5), "labels is float64 [5]; it must be"),
    ],
)
def test_other_arrays_are_refused(images, labels, told):
    with pytest.raises(UserError) as error:
        data.ImageArrays.create(images, labels)
    assert told in str(error.value) and "\n" not in str(error.value)


def test_ink_is_known_at_trace_time(arrays):
    assert arrays.ink is False
    drawn = data.ImageArrays.create(np.asarray(arrays.images), np.asarray(arrays.labels), ink=True)
    assert jax.eval_shape(lambda a: a, drawn).ink is True


def test_gather_fetches_images_in_unit_range(arrays):
    indices = data.recall(jax.random.key(0), arrays, num_slots=5, batch_size=4)
    episode = jax.jit(data.gather)(arrays, indices)
    assert episode.query.dtype == jnp.float32
    np.testing.assert_allclose(episode.query[:, 0, 0, 0] * 255, indices.query, rtol=1e-6)
    np.testing.assert_array_equal(episode.query, episode.support[indices.query_addresses])
    np.testing.assert_array_equal(episode.support_labels, arrays.labels[indices.support])


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
    gather = jax.jit(lambda rng_key: data.gather(arrays, indices, rng_key, epoch=2))
    episode = gather(jax.random.key(1))
    np.testing.assert_array_equal(episode.query, episode.support[indices.query_addresses])
    assert len(np.unique(np.asarray(episode.support).reshape(10, -1), axis=0)) > 1
