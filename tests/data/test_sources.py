import numpy as np
import pytest
from sklearn.datasets import load_digits

from memjax.data import sources


def test_digits_are_scikit_learns():
    table = sources.read_digits()
    np.testing.assert_allclose(table.images[..., 0] / 255, load_digits().images / 16, atol=0.002)
    np.testing.assert_array_equal(table.labels, load_digits().target)
    sources.check_table(table, sources.SPECS["digits"])
    assert np.all(table.splits.sum(axis=0) == 1)  # each image is in one split


def test_26x26_is_a_max_over_blocks_of_4():
    ink = np.where(np.random.default_rng(0).random((3, 105, 105, 1)) < 0.05, 255, 0)
    small = sources.shrink_to_26x26(ink.astype(np.uint8))
    for n, row, column in np.ndindex(3, 26, 26):
        block = ink[n, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        assert small[n, row, column, 0] == block.max()


@pytest.mark.parametrize(("grey", "ink"), [(0, 0), (20, 0), (21, 255), (255, 255)])
def test_28x28_is_thresholded_above_20(grey, ink):
    small = sources.shrink_to_28x28(np.full((2, 105, 105, 1), grey, np.uint8))
    assert small.shape == (2, 28, 28, 1) and small.dtype == np.uint8
    assert np.all(small == ink)


def test_28x28_keeps_a_stroke_where_it_was():
    ink = np.zeros((1, 105, 105, 1), np.uint8)
    ink[0, :, 49:53] = 255  # columns 49 to 52 of 105 are columns 13.1 to 14.1 of 28
    columns = np.flatnonzero(sources.shrink_to_28x28(ink)[0, 14, :, 0])
    assert {13, 14} <= set(columns) <= {12, 13, 14, 15}


def test_omniglot_arrangement_does_not_depend_on_the_order_of_preparation(monkeypatch):
    sizes = {"train": 30, "test": 10, "unlabelled_train": 25, "unlabelled_test": 5}
    monkeypatch.setattr(sources, "_OMNIGLOT_SPLITS", sizes)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 2, (40, 9, 9, 1)).astype(np.uint8) * 255
    labels = rng.integers(0, 8, 40).astype(np.int32)
    alphabets = labels * 7  # 0, 7, ... 49: of the five test alphabets it meets 49 only
    splits = np.stack([np.arange(40) < 30, np.arange(40) >= 30])

    def arrange(order):
        table = sources.Table(images[order], labels[order], splits[:, order])
        return sources._arrange_omniglot(table, alphabets[order])

    one, other = arrange(np.arange(40)), arrange(rng.permutation(40))
    for left, right in zip(one, other, strict=True):
        np.testing.assert_array_equal(left, right)
    assert one.splits.sum(axis=1).tolist()[:4] == list(sizes.values())
    assert not np.any(one.splits[2] & one.splits[3])
    np.testing.assert_array_equal(one.splits[5], one.labels == 7)
    np.testing.assert_array_equal(one.splits[4], one.labels != 7)
    assert np.sort(255 - one.images, axis=0).tobytes() == np.sort(images, axis=0).tobytes()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("images", np.zeros((40, 6, 5, 3), np.uint8), "images is uint8"),
        ("images", np.zeros((40, 6, 5, 1), np.float32), "images is float32"),
        ("labels", np.zeros(39, np.int32), "labels is int32"),
        ("labels", np.full(40, 3, np.int32), "a label is not in 0..2"),
        ("labels", np.full(40, -1, np.int32), "a label is not in 0..2"),
        ("splits", np.ones((2, 40), bool), "the splits hold"),
    ],
)
def test_check_table(field, value, message):
    spec = sources.Spec((6, 5, 1), 3, 40, {"train": 30, "test": 10})
    good = sources.Table(
        images=np.zeros((40, 6, 5, 1), np.uint8),
        labels=np.zeros(40, np.int32),
        splits=np.arange(40) // 30 == np.arange(2)[:, None],
    )
    sources.check_table(good, spec)
    with pytest.raises(ValueError, match=message):
        sources.check_table(good._replace(**{field: value}), spec)
