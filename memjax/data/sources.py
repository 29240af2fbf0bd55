"""Where each data set comes from: prepared TFDS sets, and what is made of them.

No two preparations of a set need agree on the order of its images, and not every split that the
papers used is to be had. Our own random choices are made by seeds, over a canonical order.
"""

import dataclasses
import io
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np

from memjax.data import prepared
from memjax.data.dataset import seeded_order
from memjax.errors import UserError
from memjax.extras import needs


class Table(NamedTuple):
    """A whole data set of D images.

    Attributes:
      images: uint8 `[D, H, W, C]`, 0 to 255.
      labels: int32 `[D]`.
      splits: bool `[S, D]`, which images each split of `Spec.split_sizes` holds, in its order.
    """

    images: np.ndarray
    labels: np.ndarray
    splits: np.ndarray


@dataclasses.dataclass(frozen=True)
class Spec:
    """What is known of a data set beforehand.

    Attributes:
      image_shape: (H, W, C).
      num_classes: labels are below it.
      num_images: D, over all splits.
      split_sizes: how many images each split holds.
      transform: makes the images from Omniglot's, for the sets derived from it.
      has_own_builder: whether it is one of `memjax.data.builders`, which need no TensorFlow.
      ink: whether the images are bright strokes on black, not photographs.
    """

    image_shape: tuple[int, int, int]
    num_classes: int
    num_images: int
    split_sizes: Mapping[str, int]
    transform: Callable[[np.ndarray], np.ndarray] | None = None
    has_own_builder: bool = False
    ink: bool = True


def read_digits() -> Table:
    """scikit-learn's digits, which it ships; 0..16 is scaled to 0..255."""
    with needs("train"):
        package = metadata.distribution("scikit-learn")
    # Its own function takes two seconds of imports.
    file = str(package.locate_file("sklearn/datasets/data/digits.csv.gz"))
    *pixels, labels = np.loadtxt(file, np.int32, delimiter=",", unpack=True)
    images = np.rint(np.stack(pixels, axis=1) * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    sizes = SPECS["digits"].split_sizes
    splits = np.zeros((2, len(images)), bool)
    splits[0, seeded_order(len(images), seed=0)[: sizes["train"]]] = True
    splits[1] = ~splits[0]
    return Table(images, labels, splits)


def read_prepared(name: str, version: Path) -> Table:
    """Reads all splits of a TFDS set that is prepared in the folder `version`.

    Raises:
      UserError: if the set is damaged.
    """
    spec = SPECS[name]
    source_splits = ("train", "test") if name == "omniglot" else tuple(spec.split_sizes)
    builder = prepared.open_builder(version)
    per_split = [prepared.read_examples(builder, split) for split in source_splits]
    examples = [example for split in per_split for example in split]
    try:
        images = _decode_images([example["image"] for example in examples], spec.image_shape)
    except Exception as error:  # PIL names damage in many ways
        raise UserError(prepared.damaged(version, error)) from error
    labels = np.array([example["label"] for example in examples], np.int32)
    split_index = np.repeat(np.arange(len(per_split)), [len(split) for split in per_split])
    table = Table(images, labels, split_index == np.arange(len(per_split))[:, None])
    if name == "omniglot":
        table = _arrange_omniglot(table, np.array([example["alphabet"] for example in examples]))
    try:
        check_table(table, spec)
    except ValueError as error:
        message = f"{version.parent} is not the whole set ({error}): delete and prepare it again"
        raise UserError(message) from error
    return table


def _decode_images(encoded: list[bytes], image_shape: tuple[int, int, int]) -> np.ndarray:
    """uint8 `[D, H, W, C]`.

    TFDS's own decoder returns one-bit images as 0 and 1 or as 0 and 255, as OpenCV is there or not.
    """
    import PIL.Image

    mode = "RGB" if image_shape[-1] == 3 else "L"
    images = np.empty((len(encoded), *image_shape), np.uint8)
    for image, data in zip(images, encoded, strict=True):
        with PIL.Image.open(io.BytesIO(data)) as picture:
            image[:] = np.asarray(picture.convert(mode)).reshape(image_shape)
    return images


def _arrange_omniglot(table: Table, alphabets: np.ndarray) -> Table:
    """Inverts the images, puts them into our seeded order, and makes the further splits."""
    count = len(table.images)
    packed = np.packbits(table.images.reshape(count, -1) > 0, axis=1)
    canonical = sorted(range(count), key=lambda i: (table.labels[i], packed[i].tobytes()))
    order = np.array(canonical)[seeded_order(count, seed=0)]
    num_train, num_test = (_OMNIGLOT_SPLITS[f"unlabelled_{part}"] for part in ("train", "test"))
    rows = np.arange(count)
    unlabelled = [rows < num_train, (rows >= num_train) & (rows < num_train + num_test)]
    is_test_alphabet = np.isin(alphabets[order], _FEWSHOT_TEST_ALPHABETS)
    fewshot = [~is_test_alphabet, is_test_alphabet]
    splits = np.concatenate([table.splits[:, order], unlabelled, fewshot])
    return Table(255 - table.images[order], table.labels[order], splits)


def shrink_to_28x28(ink: np.ndarray) -> np.ndarray:
    """The Kanerva Machine's Omniglot: down-sampled with PIL, then 255 where above 20, else 0.

    Wu et al. 2018, footnote 2. It does not name the filter: this is Lanczos, which PIL then called
    ANTIALIAS. 13.2 % of the pixels are ink.

    Args:
      ink: uint8 `[D, 105, 105, 1]`, strokes 255 on 0.

    Returns:
      uint8 `[D, 28, 28, 1]` of 0 and 255.
    """
    import PIL.Image

    small = np.empty((len(ink), 28, 28, 1), np.uint8)
    for image, drawing in zip(small, ink, strict=True):
        picture = PIL.Image.fromarray(drawing[..., 0])
        image[..., 0] = np.asarray(picture.resize((28, 28), PIL.Image.Resampling.LANCZOS))
    return np.where(small > 20, 255, 0).astype(np.uint8)


def shrink_to_26x26(ink: np.ndarray) -> np.ndarray:
    """Variational Memory Addressing's Omniglot: cropped to 104x104, then max-pooled 4x4.

    The last row and the last column are cropped. 13.8 % of the pixels are ink.

    Args:
      ink: uint8 `[D, 105, 105, 1]`, strokes 255 on 0.

    Returns:
      uint8 `[D, 26, 26, 1]` of 0 and 255.
    """
    return ink[:, :104, :104].reshape(-1, 26, 4, 26, 4, 1).max(axis=(2, 4))


def check_table(table: Table, spec: Spec) -> None:
    """Raises a ValueError that says how `table` differs from what `spec` promises."""
    count = spec.num_images
    expected = {
        "images": (np.uint8, (count, *spec.image_shape)),
        "labels": (np.int32, (count,)),
        "splits": (np.bool_, (len(spec.split_sizes), count)),
    }
    for field, (dtype, shape) in expected.items():
        array = getattr(table, field)
        if array.dtype != dtype or array.shape != shape:
            found = f"{array.dtype} {list(array.shape)}"
            raise ValueError(f"{field} is {found}, not {np.dtype(dtype)} {list(shape)}")
    if table.labels.min() < 0 or table.labels.max() >= spec.num_classes:
        raise ValueError(f"a label is not in 0..{spec.num_classes - 1}")
    sizes = dict(zip(spec.split_sizes, table.splits.sum(axis=1).tolist(), strict=True))
    if sizes != dict(spec.split_sizes):
        raise ValueError(f"the splits hold {sizes}, not {dict(spec.split_sizes)} images")


# Georgian Asomtavruli, Early Aramaic, Ge'ez, Mongolian and ULOG: of the draws of five alphabets,
# the first whose characters are 144 in all, as many as VMA was tested on. Which five those were is
# not published.
_FEWSHOT_TEST_ALPHABETS = (5, 16, 18, 36, 49)

_OMNIGLOT_SPLITS = {
    "train": 19_280,
    "test": 13_180,
    "unlabelled_train": 24_345,
    "unlabelled_test": 8_070,
    "fewshot_train": 29_580,
    "fewshot_test": 2_880,
}


def _omniglot(size: int, transform: Callable[[np.ndarray], np.ndarray] | None = None) -> Spec:
    return Spec((size, size, 1), 1_623, 32_460, _OMNIGLOT_SPLITS, transform)


SPECS: Mapping[str, Spec] = {
    "digits": Spec((8, 8, 1), 10, 1_797, {"train": 1_500, "test": 297}),
    "mnist": Spec((28, 28, 1), 10, 70_000, {"train": 60_000, "test": 10_000}),
    "cifar10": Spec((32, 32, 3), 10, 60_000, {"train": 50_000, "test": 10_000}, ink=False),
    "omniglot": _omniglot(105),
    "omniglot_28x28": _omniglot(28, shrink_to_28x28),
    "omniglot_26x26": _omniglot(26, shrink_to_26x26),
    "ocr_letters": Spec(
        (16, 8, 1),
        26,
        52_152,
        {"train": 32_152, "validation": 10_000, "test": 10_000},
        has_own_builder=True,
    ),
    "frey_faces": Spec(
        (28, 20, 1),
        1,
        1_965,
        {"train": 1_865, "test": 100},
        has_own_builder=True,
        ink=False,
    ),
}
