"""TFDS sets that lie prepared on the disk, read without TensorFlow and without their builders."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memjax.data import pictures
from memjax.data.dataset import Dataset, from_arrays
from memjax.errors import UserError, one_line
from memjax.extras import needs

if TYPE_CHECKING:
    from tensorflow_datasets.core import DatasetBuilder

_INFO = "dataset_info.json"


def find_splits(
    name: str, split: str, tfds_folders: Sequence[Path]
) -> Mapping[str, Callable[[], Dataset]]:
    """What reads each split of a set, and `split` if it is a slice such as `train[:80%]`.

    Args:
      name: as TFDS spells it: `NAME` or `NAME/CONFIG`, then `:VERSION` or else the newest.
      split: which may be a slice.
      tfds_folders: where the set may lie; the first that holds it counts.

    Raises:
      UserError: if it is not there, damaged, without images, or stored in a form that can't be
        read without TensorFlow.
    """
    told, below = f"tfds:{name}", name.replace(":", "/")
    version = find_version(below, tfds_folders)
    if version is None:
        folders = " and ".join(map(str, tfds_folders))
        infos = [path for folder in tfds_folders for path in folder.glob(f"{below}/*/*/{_INFO}")]
        configs = sorted({f"{told}/{path.parts[-3]}" for path in infos})
        hint = f", but {', '.join(configs)}" if configs else ""
        raise UserError(f"{told} is not in {folders}{hint}: set data_dir to the folder above it")
    builder = open_builder(version)
    splits = list(builder.info.splits)
    try:
        builder.info.splits[split]  # which reads slices too
        splits += [split] * (split not in splits)
    except (KeyError, ValueError, AssertionError):
        pass  # by whoever asks for it
    return {split: partial(_read_split, builder, told, split) for split in splits}


def _read_split(builder: "DatasetBuilder", told: str, split: str) -> Dataset:
    import tensorflow_datasets as tfds

    features = builder.info.features
    if "image" not in features or not isinstance(features["image"], tfds.features.Image):
        raise UserError(f"{told} has the features {', '.join(features)}; image must be an Image")
    examples = read_examples(builder, split)
    if not examples:
        raise UserError(f"{told} has no image in {split}")
    names = [f"{told}, image {i} of {split}," for i in range(len(examples))]
    images = pictures.read(names, [example["image"] for example in examples])
    labels = [example["label"] for example in examples] if "label" in features else None
    try:
        return from_arrays(images, labels)
    except UserError as error:
        raise UserError(f"{told}: {error}") from error


def find_version(name: str, tfds_folders: Sequence[Path]) -> Path | None:
    """The folder of a set, at a version or else its newest, in the first that holds any."""
    for folder in (tfds_folder / name for tfds_folder in tfds_folders):
        if (folder / _INFO).exists():
            return folder
        versions = [path.parent for path in folder.glob(f"*/{_INFO}")]
        if versions:
            return max(versions, key=_numbers)
    return None


def open_builder(version_folder: Path) -> "DatasetBuilder":
    """What TFDS knows of a prepared set.

    Raises:
      UserError: if TFDS is not installed, or can't make sense of the folder.
    """
    with needs("train"):
        import tensorflow_datasets as tfds
    try:
        return tfds.builder_from_directory(version_folder)
    except Exception as error:  # Protobuf, JSON and TFDS each have errors of their own
        raise UserError(damaged(version_folder, error)) from error


def read_examples(builder: "DatasetBuilder", split: str) -> list[Any]:
    """A split's examples, images still encoded.

    Raises:
      UserError: if there is no such split, the set is damaged, or not of a format with random
        access.
    """
    import tensorflow_datasets as tfds

    decoders = {"image": tfds.decode.SkipDecoding()}
    try:
        source = builder.as_data_source(split=split, decoders=decoders)
        indices = list(range(len(source)))
        # One at a time takes five times as long.
        chunks = (indices[start : start + 4096] for start in range(0, len(indices), 4096))
        return [example for chunk in chunks for example in source.__getitems__(chunk)]
    except NotImplementedError as error:
        raise UserError(
            f"{builder.data_path} is in the format {builder.info.file_format.value}, which only "
            "TensorFlow reads: prepare it with file_format='array_record'"
        ) from error
    except Exception as error:  # so has ArrayRecord
        raise UserError(damaged(builder.data_path, error)) from error


def damaged(folder: Path, error: Exception) -> str:
    """The message about a prepared set that can't be read, in one line."""
    return f"{folder} cannot be read ({one_line(error)}): delete it and prepare it again"


def _numbers(version: Path) -> list[int]:
    return [int(part) for part in version.name.split(".") if part.isdigit()]
