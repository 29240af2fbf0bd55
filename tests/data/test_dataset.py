import jax.numpy as jnp
import numpy as np
import pytest

from memjax import data
from memjax.data.dataset import seeded_order
from memjax.errors import UserError

_IMAGES = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)


def refusal(call, *args, **fields):
    """The one line with which a call is refused."""
    with pytest.raises(UserError) as error:
        call(*args, **fields)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "images",
    [
        _IMAGES,
        _IMAGES[..., None],
        _IMAGES / 255,
        (_IMAGES / 255).astype(np.float16),
        jnp.asarray(_IMAGES / 255, jnp.bfloat16),
        (_IMAGES / 255).tolist(),
        jnp.asarray(_IMAGES),
    ],
)
def test_grey_images_are_kept_as_uint8(images):
    made = data.from_arrays(images)
    assert made.images.dtype == np.uint8 and made.images.shape == (3, 4, 5, 1)
    error = np.max(np.abs(made.images[..., 0].astype(int) - _IMAGES))
    assert error == 0  # so small are the levels that bfloat16 still tells them apart
    assert made.labels.tolist() == [-1, -1, -1] and made.labels.dtype == np.int32
    assert made.ink is False


def test_levels_are_rounded_not_cut():
    levels = np.array([0.0, 0.4 / 255, 0.6 / 255, 0.999, 1.0])
    made = data.from_arrays(levels.reshape(5, 1, 1))
    assert made.images.ravel().tolist() == [0, 0, 1, 255, 255]


def test_colour_images_and_labels():
    colour = np.repeat(_IMAGES[..., None], 3, axis=-1)
    for labels in ([4, -1, 0], np.array([[4], [-1], [0]], np.int64), np.array([4, -1, 0], np.int8)):
        images, kept, _ = data.from_arrays(colour, labels)
        assert images.shape == (3, 4, 5, 3)
        assert kept.tolist() == [4, -1, 0] and kept.dtype == np.int32


_ALLOWED = "it must be uint8, or floats in [0, 1], of shape [D, H, W] or [D, H, W, C]"


@pytest.mark.parametrize(
    ("images", "told"),
    [
        (_IMAGES.astype(np.uint16), f"images is uint16 [3, 4, 5]; {_ALLOWED}"),
        (_IMAGES.astype(np.int64), f"images is int64 [3, 4, 5]; {_ALLOWED}"),
        (_IMAGES > 9, f"images is bool [3, 4, 5]; {_ALLOWED}"),
        (_IMAGES.astype(np.complex64), f"images is complex64 [3, 4, 5]; {_ALLOWED}"),
        (_IMAGES.astype(object), f"images is object [3, 4, 5]; {_ALLOWED}"),
        (None, f"images is object []; {_ALLOWED}"),
        ("digits", f"images is <U6 []; {_ALLOWED}"),
        (_IMAGES[0], f"images is uint8 [4, 5]; {_ALLOWED}"),
        (np.zeros((2, 4, 5, 4), np.uint8), f"images is uint8 [2, 4, 5, 4]; {_ALLOWED}"),
        (np.zeros((2, 3, 4, 5), np.uint8), f"images is uint8 [2, 3, 4, 5]; {_ALLOWED}"),
        (np.zeros((1, 2, 4, 5, 1), np.uint8), f"images is uint8 [1, 2, 4, 5, 1]; {_ALLOWED}"),
        ([[[0.0, 1.0]], [[0.0]]], f"images is a list whose entries differ in length; {_ALLOWED}"),
        (_IMAGES[:0], "images is uint8 [0, 4, 5]; it must hold at least one image"),
        (_IMAGES[:, :0] / 255, "images is float64 [3, 0, 5]; it must hold at least one image"),
        (_IMAGES.astype(np.float32), "floats from 0.0 to 59.0; they must lie in [0, 1]"),
        (_IMAGES / 59 * 2 - 1, "floats from -1.0 to 1.0; they must lie in [0, 1]"),
        (np.full((1, 2, 2), np.nan), "floats from nan to nan; they must lie in [0, 1]"),
        (_IMAGES / np.inf + np.inf, "floats from inf to inf; they must lie in [0, 1]"),
        (np.eye(4, dtype=np.uint8)[None], "images is uint8 of 0 and 1; white is 255"),
    ],
)
def test_other_images_are_refused(images, told):
    assert told in refusal(data.from_arrays, images)


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ([0, 1], "labels is int64 [2]; there are 3 images, so it must be of shape [3]"),
        ([[0, 1, 2]], "labels is int64 [1, 3]; there are 3 images"),
        (1, "labels is int64 []; there are 3 images"),
        ([0.0, 1.0, 2.0], "labels is float64 [3]; it must be integers [D], below 2**31"),
        ([True, False, True], "labels is bool [3]; it must be integers"),
        (["a", "b", "c"], "labels is <U1 [3]; it must be integers"),
        ([0, [1], 2], "labels is a list whose entries differ in length; it must be integers"),
        ([0, 1, 2**31], "labels holds 0 to 2147483648; it must be integers [D], below 2**31"),
        (np.array([0, 1, 2**64 - 1], np.uint64), "labels holds 0 to 18446744073709551615"),
    ],
)
def test_other_labels_are_refused(labels, told):
    assert told in refusal(data.from_arrays, _IMAGES, labels)


def test_a_split_holds_each_image_once_in_order():
    images = np.arange(100, dtype=np.uint8).reshape(100, 1, 1)
    whole = data.from_arrays(images, np.arange(100))._replace(ink=True)
    train, test = whole.split(0.25, seed=3)
    assert len(train.images) == 75 and len(test.images) == 25
    np.testing.assert_array_equal(test.labels, np.sort(seeded_order(100, 3)[:25]))
    np.testing.assert_array_equal(np.union1d(train.labels, test.labels), np.arange(100))
    for part in (train, test):
        np.testing.assert_array_equal(part.images.ravel(), part.labels)
        assert np.all(np.diff(part.labels) > 0) and part.ink
    assert whole.split(0.25, seed=4)[1].labels.tolist() != test.labels.tolist()
    assert len(whole.split()[1].images) == 10


@pytest.mark.parametrize(
    ("count", "fraction", "num_test"), [(2, 0.01, 1), (2, 0.99, 1), (5, 0.3, 2), (9, 0.5, 4)]
)
def test_no_part_is_empty(count, fraction, num_test):
    train, test = data.from_arrays(np.zeros((count, 1, 1), np.uint8)).split(fraction)
    assert (len(train.images), len(test.images)) == (count - num_test, num_test)


def test_impossible_splits_are_refused():
    whole = data.from_arrays(_IMAGES)
    for fraction in (0, 1, -0.1, 1.5, float("nan"), "0.1", None):
        told = refusal(whole.split, fraction)
        assert told == f"test_fraction is {fraction!r}; it must be above 0 and below 1"
    for seed in (-1, 0.5, "0", 2**63):
        assert refusal(whole.split, 0.5, seed).startswith(f"seed is {seed!r}; it must be an int")
    told = refusal(data.from_arrays(_IMAGES[:1]).split)
    assert told == "images holds 1; to divide them takes at least 2"


def test_seeded_order_is_the_same_everywhere():
    order = seeded_order(1000, seed=0)
    np.testing.assert_array_equal(np.sort(order), np.arange(1000))
    assert order[:6].tolist() == [855, 921, 269, 11, 850, 403]
    assert order.tolist() != seeded_order(1000, seed=1).tolist()


def test_binary_images_are_told_from_grey_ones():
    images = np.where(np.random.default_rng(0).random((1500, 4, 4, 1)) < 0.5, 255, 0)
    images = images.astype(np.uint8)
    assert data.is_binary(images) and data.is_binary(jnp.asarray(images[:2]))
    assert data.is_binary(np.zeros((2, 3, 3, 1), np.uint8))
    for level in (1, 127, 254):
        images[1499, 3, 3] = level
        assert not data.is_binary(images)
    assert refusal(data.is_binary, images / 255) == "images is float64; it must be uint8"
