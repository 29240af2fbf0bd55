"""Data sets as NumPy arrays, by name; decoded once, then read from a cache of `.npz` files."""

import logging
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from memjax import files
from memjax.data import own, prepared, sources
from memjax.data.dataset import Dataset
from memjax.data.sources import Spec, Table
from memjax.errors import UserError
from memjax.extras import needs

_LOG = logging.getLogger("memjax")

# To be raised whenever the same name stands for other arrays, so that older caches are rebuilt.
_CACHE_VERSION = 1


def load(
    name: str | os.PathLike,
    split: str,
    data_dir: str | os.PathLike | None = None,
    *,
    test_fraction: float = 0.1,
    split_seed: int = 0,
) -> Dataset:
    """Loads one split of a data set: one of these, or your own.

    | name | images | splits |
    |---|---|---|
    | `digits` | 8x8x1 | train 1,500, test 297; comes with scikit-learn |
    | `mnist` | 28x28x1 | train 60,000, test 10,000 |
    | `cifar10` | 32x32x3 | train 50,000, test 10,000 |
    | `omniglot`, `omniglot_28x28`, `omniglot_26x26` | 105x105x1 and smaller, binary | see below |
    | `ocr_letters` | 16x8x1, binary | train 32,152, validation 10,000, test 10,000 |
    | `frey_faces` | 28x20x1 | train 1,865, test 100 |
    | a path to a `.npy` file | what `from_arrays` takes | train, test |
    | a path to a `.npz` file | the arrays `images` and, if there, `labels` | train, test |
    | a path to a folder | png, jpg, jpeg, bmp, gif and webp files | train, test |
    | `tfds:NAME` | any TFDS set of `image` and, if there, `label` | its own, and slices of them |

    Omniglot's splits, of 1,623 characters drawn 20 times each:

    - `train` 19,280, `test` 13,180: the background and the evaluation alphabets.
    - `unlabelled_train` 24,345, `unlabelled_test` 8,070: of the sizes of Burda et al. 2016, who do
      not say which drawings they took. Drawn by a seed from all; every label is -1.
    - `fewshot_train`, `fewshot_test`: 45 and 5 alphabets, as Rezende et al. 2016 and Variational
      Memory Addressing, who do not say which. Drawn by a seed; the 5 have 144 classes, like VMA's.

    The original splits of the digits, the OCR letters and the Frey faces are not to be had either:
    ours are drawn by a seed.

    Your own data:

    - What has no `test` of its own has its `train` divided by chance into `train` and `test`, by
      `test_fraction` and `split_seed`: see `Dataset.split`.
    - A `.npz` file may hold its own splits as `train_images`, `train_labels`, `test_images` and so
      on, a folder as subfolders that are all named `train`, `validation`, `val` or `test`.
    - Any other subfolders of a folder are its classes, in sorted order. Pictures are read in sorted
      order; hidden files, and files of other kinds, are passed over. All must be of one size, of 8
      bits and opaque. Where some are in colour, the grey ones are read as colour too.
    - `tfds:NAME` must be prepared, with `file_format="array_record"`; `tfds:NAME/CONFIG:VERSION`
      chooses among several.
    - Relative paths count from the current folder, and `~` is your home. A folder called like one
      of the names above is `./NAME`. Nothing pickled is loaded.

    Args:
      name: of the data set, or where it is.
      split: of the data set.
      data_dir: folder of prepared TFDS sets, `tfds/`, of original files, `manual/`, and of the
        cache, `cache/`. None is $MEMJAX_DATA_DIR, or else ~/memjax_data. What cannot be written
        there goes to $MEMJAX_CACHE_DIR, or else ~/.cache/memjax. Paths do not count from it.
      test_fraction: the part of your own data that is `test`, if it has none.
      split_seed: of the draw of that part.

    Raises:
      UserError: if there is no such data set or split, or if it can't be read.
    """
    name = str(name)
    if name in sources.SPECS:
        return _load_listed(name, split, data_dir)
    readers = _find_splits(name, split, data_dir)
    is_divided = "train" in readers and "test" not in readers
    if is_divided and split in ("train", "test"):
        whole = readers["train"]()
        try:
            train, test = whole.split(test_fraction, split_seed)
        except UserError as error:
            raise UserError(f"{name}: {error}") from error
        return train if split == "train" else test
    if split not in readers:
        by_chance = [f"test ({test_fraction} of train, by seed {split_seed})"] if is_divided else []
        choice = ", ".join([*readers, *by_chance])
        raise UserError(f"{name} has no split {split!r}: choose from {choice}")
    return readers[split]()


def _find_splits(
    name: str, split: str, data_dir: str | os.PathLike | None
) -> Mapping[str, Callable[[], Dataset]]:
    """What reads each split that a set of one's own has."""
    if name.startswith("tfds:"):
        folders = find_folders(data_dir).tfds
        return prepared.find_splits(name.removeprefix("tfds:"), split, folders)
    looks_like_path = "/" in name or os.sep in name or name.startswith("~")
    if looks_like_path or name.endswith((".npy", ".npz")) or os.path.exists(name):
        return own.find_splits(Path(os.path.expanduser(name)))
    raise UserError(
        f"there is no data set {name!r}: choose from {', '.join(sources.SPECS)}, a path to a .npy "
        "or .npz file or a folder of images, or tfds:NAME"
    )


def _load_listed(name: str, split: str, data_dir: str | os.PathLike | None) -> Dataset:
    spec = sources.SPECS[name]
    if split not in spec.split_sizes:
        choice = ", ".join(spec.split_sizes)
        raise UserError(f"{name} has no split {split!r}: choose from {choice}")
    table = sources.read_digits() if name == "digits" else _table(name, find_folders(data_dir))
    rows = table.splits[list(spec.split_sizes).index(split)]
    labels = table.labels[rows]
    if split.startswith("unlabelled_"):
        labels = np.full_like(labels, -1)
    return Dataset(table.images[rows], labels, spec.ink)


class Folders(NamedTuple):
    """Where things are looked for, and written if they can be: the first folders first."""

    tfds: Sequence[Path]
    manual: Path
    cache: Sequence[Path]


def find_folders(data_dir: str | os.PathLike | None = None) -> Folders:
    """The folders that `data_dir` and the environment name; see `load`."""
    data = Path(data_dir or os.environ.get("MEMJAX_DATA_DIR") or "~/memjax_data").expanduser()
    cache = Path(os.environ.get("MEMJAX_CACHE_DIR") or "~/.cache/memjax").expanduser()
    return Folders([data / "tfds", cache / "tfds"], data / "manual", [data / "cache", cache])


def first_writable(folders: Sequence[Path]) -> Path:
    """The first of `folders` that can be written, made if need be.

    Raises:
      UserError: if none can.
    """
    for folder in folders:
        if files.is_writable(folder):
            folder.mkdir(parents=True, exist_ok=True)
            return folder
    raise UserError(
        f"{' and '.join(map(str, folders))} cannot be written: "
        "set MEMJAX_CACHE_DIR to a folder that can"
    )


def _table(name: str, folders: Folders) -> Table:
    """From the cache, or else from the source and then cached."""
    damaged = []
    for path in (folder / f"{name}.npz" for folder in folders.cache):
        try:
            return _read_cache(path, sources.SPECS[name])
        except FileNotFoundError:
            continue
        except Exception as error:  # zip, zlib and NumPy name damage in many ways
            damaged.append(f"the cache file {path} is damaged ({error})")
            _LOG.warning("%s and is not used", damaged[-1])
    try:
        table = _build(name, folders)
    except UserError as error:
        raise UserError("; ".join([*damaged, str(error)])) from error
    _write_cache(name, table, folders)
    return table


def _build(name: str, folders: Folders) -> Table:
    """Reads the prepared set; prepares it first where that needs only its original file."""
    spec = sources.SPECS[name]
    if spec.transform is not None:
        omniglot = _table("omniglot", folders)
        return omniglot._replace(images=spec.transform(omniglot.images))
    version = prepared.find_version(name, folders.tfds)
    if version is None:
        if not spec.has_own_builder:
            raise UserError(
                f"{name} is not in {folders.tfds[0]}: set data_dir or MEMJAX_DATA_DIR to the "
                f"folder whose tfds/ holds it, or run python -m memjax.data {name} "
                f"--data_dir={folders.manual.parent}"
            )
        with needs("train"):
            from memjax.data import builders
        folder = first_writable(folders.tfds)
        version = builders.prepare(name, folder, folders.manual)
    return sources.read_prepared(name, version)


def _read_cache(path: Path, spec: Spec) -> Table:
    """Raises whatever it may if there is no such file, or if it is damaged."""
    with np.load(path, allow_pickle=False) as file:
        if file["version"] != _CACHE_VERSION:
            raise ValueError(f"its format is {file['version']}, not {_CACHE_VERSION}")
        # A member's checksum is compared when its last byte is read: all of them are, if its shape
        # is the expected one.
        table = Table(*(file[field] for field in Table._fields))
    sources.check_table(table, spec)
    return table


def _write_cache(name: str, table: Table, folders: Folders) -> None:
    """Writes beside the final name, then renames: readers see the whole file or none."""
    try:
        folder = first_writable(folders.cache)
        temporary = folder / f".{name}.{uuid.uuid4().hex}.npz"
        try:
            np.savez_compressed(temporary, version=_CACHE_VERSION, **table._asdict())
            temporary.replace(folder / f"{name}.npz")
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, UserError) as error:
        _LOG.warning("%s is not cached: %s", name, error)
