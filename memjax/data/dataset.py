"""A split of a data set as NumPy arrays, and anyone's arrays as such a split."""

import numbers
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from memjax.errors import UserError

_IMAGES = "uint8, or floats in [0, 1], of shape [D, H, W] or [D, H, W, C] with C 1 or 3"
_LABELS = "integers [D], below 2**31"


class Dataset(NamedTuple):
    """One split of a data set.

    Attributes:
      images: uint8 `[D, H, W, C]`, 0 to 255; binary sets hold 0 and 255.
      labels: int32 `[D]`, -1 where there are none.
      ink: whether the images are bright strokes on black, which pictures show as ink on paper.
    """

    images: np.ndarray
    labels: np.ndarray
    ink: bool = False

    def split(self, test_fraction: float = 0.1, seed: int = 0) -> tuple["Dataset", "Dataset"]:
        """Divides the images by chance: the same on every machine.

        Args:
          test_fraction: of the images, rounded to a whole number; each part gets one at least.
          seed: of the draw, 0 or above.

        Returns:
          The images to train on and those to test on, each in the order they have here.

        Raises:
          UserError: if a part would be empty, or an argument is out of its range.
        """
        count = len(self.images)
        if not isinstance(test_fraction, numbers.Real) or not 0 < test_fraction < 1:
            raise UserError(f"test_fraction is {test_fraction!r}; it must be above 0 and below 1")
        if not isinstance(seed, numbers.Integral) or not 0 <= seed < 2**63:
            raise UserError(f"seed is {seed!r}; it must be an integer from 0 on, below 2**63")
        if count < 2:
            raise UserError(f"images holds {count}; to divide them takes at least 2")
        num_test = min(max(round(test_fraction * count), 1), count - 1)
        is_test = np.zeros(count, bool)
        is_test[seeded_order(count, int(seed))[:num_test]] = True
        train, test = (
            self._replace(images=self.images[rows], labels=self.labels[rows])
            for rows in (~is_test, is_test)
        )
        return train, test


def from_arrays(images: Any, labels: Any = None) -> Dataset:
    """Makes a data set of your own images; they are drawn as photographs.

    Args:
      images: uint8 from 0 to 255, or floats from 0 to 1, which are kept as uint8: times 255,
        rounded. `[D, H, W]` or `[D, H, W, C]`; C is 1 for grey, 3 for colour.
      labels: integers `[D]` or `[D, 1]`, negative where there is none; None for no labels.

    Returns:
      The data set.

    Raises:
      UserError: if the images or the labels are anything else.
    """
    array = _to_array("images", images, _IMAGES)
    found = f"images is {array.dtype} {list(array.shape)}"
    is_float = jnp.issubdtype(array.dtype, jnp.floating)
    is_colour = array.ndim == 4 and array.shape[-1] == 3
    is_grey = array.ndim == 3 or (array.ndim == 4 and array.shape[-1] == 1)
    if not (is_float or array.dtype == np.uint8) or not (is_colour or is_grey):
        raise UserError(f"{found}; it must be {_IMAGES}")
    if array.size == 0:
        raise UserError(f"{found}; it must hold at least one image, of at least one pixel")
    low, high = array.min(), array.max()
    if is_float and not (low >= 0 and high <= 1):  # NaN is neither
        raise UserError(f"images holds floats from {low} to {high}; they must lie in [0, 1]")
    if array.dtype == np.uint8 and high == 1:
        raise UserError("images is uint8 of 0 and 1; white is 255: multiply it by 255")
    if is_float:
        array = np.rint(np.multiply(array, 255, dtype=np.float32)).astype(np.uint8)
    if array.ndim == 3:
        array = array[..., None]
    return Dataset(array, _check_labels(labels, len(array)))


def is_binary(images: np.ndarray) -> bool:
    """Whether uint8 images `[D, H, W, C]` hold 0 and 255 alone, as a Bernoulli wants them."""
    images = np.asarray(images)
    if images.dtype != np.uint8:
        raise UserError(f"images is {images.dtype}; it must be uint8")
    # Some at a time: photographs are told by the first. 255 + 1 wraps to 0.
    chunks = (images[start : start + 1024] for start in range(0, len(images), 1024))
    return all(chunk.size == 0 or (chunk + np.uint8(1)).max() <= 1 for chunk in chunks)


def seeded_order(count: int, seed: int) -> np.ndarray:
    """A permutation of 0..count-1: int64 `[count]`, the same on every machine.

    From the raw bits, whose stream NumPy promises never to change, unlike that of `permutation`.
    """
    return np.argsort(np.random.PCG64(seed).random_raw(count), kind="stable")


def _check_labels(labels: Any, count: int) -> np.ndarray:
    """int32 `[count]`; -1 where there are no labels."""
    if labels is None:
        return np.full(count, -1, np.int32)
    array = _to_array("labels", labels, _LABELS)
    found = f"labels is {array.dtype} {list(array.shape)}"
    if not np.issubdtype(array.dtype, np.integer):
        raise UserError(f"{found}; it must be {_LABELS}")
    if array.shape not in ((count,), (count, 1)):
        raise UserError(f"{found}; there are {count} images, so it must be of shape [{count}]")
    if array.max() >= 2**31 or array.min() < -(2**31):
        raise UserError(f"labels holds {array.min()} to {array.max()}; it must be {_LABELS}")
    return array.reshape(count).astype(np.int32)


def _to_array(field: str, value: Any, allowed: str) -> np.ndarray:
    try:
        return np.asarray(value)
    except ValueError as error:  # lists of unequal lengths
        kind = type(value).__name__
        raise UserError(
            f"{field} is a {kind} whose entries differ in length; it must be {allowed}"
        ) from error
