"""A user's own images: arrays in a file of NumPy's, or a folder of pictures."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from memjax.data import pictures
from memjax.data.dataset import Dataset, from_arrays
from memjax.errors import UserError, one_line

_PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
_SPLIT_FOLDERS = {"train", "validation", "val", "test"}


def find_splits(path: Path) -> Mapping[str, Callable[[], Dataset]]:
    """What reads each split that a file or folder has of its own; see `memjax.data.load`.

    Raises:
      UserError: if there is nothing, or nothing of a kind that can be read.
    """
    if path.is_dir():
        return _folder_splits(path)
    if not path.exists():
        raise UserError(f"there is no file or folder {path}, counted from {Path.cwd()}")
    if path.suffix not in (".npy", ".npz"):
        raise UserError(f"{path} is no data set: choose a .npy or .npz file, or a folder of images")
    return _array_splits(path)


def _array_splits(path: Path) -> Mapping[str, Callable[[], Dataset]]:
    with _opened(path) as file:
        if isinstance(file, np.ndarray):
            return {"train": partial(_read_array, path)}
        names = list(file)
    if "images" in names:
        return {"train": partial(_read_arrays, path, "images", "labels")}
    splits = [name.removesuffix("_images") for name in names if name.endswith("_images")]
    if not splits:
        raise UserError(
            f"{path} holds the arrays {', '.join(names) or 'none'}; it must hold images and, if "
            "you like, labels, or else train_images, train_labels, test_images and so on"
        )
    return {s: partial(_read_arrays, path, f"{s}_images", f"{s}_labels") for s in splits}


def _read_array(path: Path) -> Dataset:
    with _opened(path) as array:
        return from_arrays(array)


def _read_arrays(path: Path, images_name: str, labels_name: str) -> Dataset:
    with _opened(path) as file:
        return from_arrays(file[images_name], file.get(labels_name))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator:
    """What NumPy reads from a file; any error becomes one line that names the file."""
    try:
        loaded = np.load(path, allow_pickle=False)
        with loaded if hasattr(loaded, "close") else contextlib.nullcontext():
            yield loaded
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:  # zip, zlib and NumPy name damage in many ways
        why = one_line(error)
        if "pickle" in why:
            why = "it holds pickled objects, which are never loaded, or is not a file of NumPy's"
        raise UserError(f"{path} cannot be read ({why}): save plain arrays there") from error


def _folder_splits(folder: Path) -> Mapping[str, Callable[[], Dataset]]:
    subfolders = _list_subfolders(folder)
    if not subfolders or not {path.name for path in subfolders} <= _SPLIT_FOLDERS:
        return {"train": partial(_read_folder, folder, [path.name for path in subfolders])}
    # A class has the same number in every split.
    classes = sorted({path.name for split in subfolders for path in _list_subfolders(split)})
    return {split.name: partial(_read_folder, split, classes) for split in subfolders}


def _read_folder(folder: Path, classes: list[str]) -> Dataset:
    """The pictures of a folder, or of its subfolders, whose labels are places in `classes`."""
    subfolders = _list_subfolders(folder)
    paths = _list_pictures(folder)
    if paths and subfolders:
        raise UserError(
            f"{folder} holds both pictures ({paths[0].name}) and folders ({subfolders[0].name}): "
            "put every picture into the folder of its class, or all of them beside each other"
        )
    labels = [-1] * len(paths)
    for subfolder in subfolders:
        if nested := _list_subfolders(subfolder):
            raise UserError(f"{nested[0]} is a folder within a class: put its pictures above it")
        members = _list_pictures(subfolder)
        if not members:
            raise UserError(f"{subfolder} {_holds_none()}: every folder is a class")
        paths += members
        labels += [classes.index(subfolder.name)] * len(members)
    if not paths:
        raise UserError(f"{folder} {_holds_none()}")
    return Dataset(pictures.read([str(path) for path in paths], paths), np.array(labels, np.int32))


def _holds_none() -> str:
    return f"holds no picture, by its suffix one of {' '.join(_PICTURE_SUFFIXES)}"


def _list_subfolders(folder: Path) -> list[Path]:
    return [path for path in _list_visible(folder) if path.is_dir()]


def _list_pictures(folder: Path) -> list[Path]:
    files = [path for path in _list_visible(folder) if not path.is_dir()]
    return [path for path in files if path.suffix.lower() in _PICTURE_SUFFIXES]


def _list_visible(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error}") from error
