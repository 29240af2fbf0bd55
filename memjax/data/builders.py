"""TFDS builders of the sets that TFDS lacks; they need no TensorFlow.

They read the original file from TFDS's manual folder if it is there, and download it otherwise.
"""

import abc
import gzip
import io
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import scipy.io
import tensorflow_datasets as tfds

from memjax.data.dataset import seeded_order
from memjax.data.sources import SPECS
from memjax.errors import UserError

_TIMEOUT_SECONDS = 10


def prepare(name: str, tfds_folder: Path, manual_folder: Path) -> Path:
    """Prepares one of the sets below, and says in which folder.

    Args:
      name: of the set, as TFDS derives it from the class: `ocr_letters` or `frey_faces`.
      tfds_folder: where to prepare it.
      manual_folder: where the original file is, unless it is to be downloaded.

    Raises:
      UserError: if the file is not what it should be, or neither there nor to be downloaded.
    """
    builder = tfds.builder(name, data_dir=tfds_folder, file_format="array_record")
    original = manual_folder / builder.file_name
    if not original.exists() and not is_reachable(builder.URL):
        raise UserError(
            f"{original} is missing, and {builder.URL} cannot be reached: put the file there"
        )
    config = tfds.download.DownloadConfig(manual_dir=manual_folder)
    try:
        builder.download_and_prepare(download_config=config)
    except (OSError, tfds.download.DownloadError) as error:
        if not builder.is_prepared():  # by another process, meanwhile
            raise UserError(f"{name} cannot be prepared in {tfds_folder}: {error}") from error
    return Path(builder.data_path)


def is_reachable(url: str) -> bool:
    """Whether a server answers at `url`, within seconds; TFDS itself would try for minutes."""
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError:
        return True  # an answer too
    except OSError:
        return False
    return True


class _OriginalFileBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Images and labels from one file, split by a seed."""

    URL: str

    @property
    def file_name(self) -> str:
        return self.URL.rsplit("/", 1)[-1]

    @abc.abstractmethod
    def read(self, path: Path) -> tuple[np.ndarray, np.ndarray]:
        """Returns images uint8 `[D, H, W, 1]` and labels `[D]`."""

    def _info(self) -> tfds.core.DatasetInfo:
        spec = SPECS[self.name]
        image = tfds.features.Image(shape=spec.image_shape, encoding_format="png")
        label = tfds.features.ClassLabel(num_classes=spec.num_classes)
        features = tfds.features.FeaturesDict({"image": image, "label": label})
        return tfds.core.DatasetInfo(
            builder=self, description=self.__doc__, features=features, homepage=self.URL
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        images, labels = self.read(self._original_file(dl_manager))
        sizes = SPECS[self.name].split_sizes
        rows = np.split(seeded_order(len(images), seed=0), np.cumsum(list(sizes.values()))[:-1])
        return {
            split: self._generate_examples(images, labels, split_rows)
            for split, split_rows in zip(sizes, rows, strict=True)
        }

    def _original_file(self, dl_manager: tfds.download.DownloadManager) -> Path:
        try:
            manual = dl_manager.manual_dir / self.file_name
        except AssertionError:  # which is how TFDS says that the folder is missing or empty
            return dl_manager.download(self.URL)
        return manual if manual.exists() else dl_manager.download(self.URL)

    def _generate_examples(
        self, images: np.ndarray, labels: np.ndarray, rows: np.ndarray
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for row in rows.tolist():
            # As a file: TFDS encodes arrays with TensorFlow.
            file = io.BytesIO()
            PIL.Image.fromarray(images[row, ..., 0]).save(file, format="PNG")
            file.seek(0)
            yield row, {"image": file, "label": int(labels[row])}


class OcrLetters(_OriginalFileBuilder):
    """Handwritten lower-case letters, cut out of words: binary images 16 high and 8 wide.

    Collected by Rob Kassel, cleaned by Ben Taskar. The splits are memjax's own, drawn by a seed.
    """

    VERSION = tfds.core.Version("1.0.0")
    URL = "http://ai.stanford.edu/~btaskar/ocr/letter.data.gz"
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"The file {URL}; it is downloaded where it is missing."

    def read(self, path: Path) -> tuple[np.ndarray, np.ndarray]:
        """Parses lines of id, letter, next id, word id, position, fold and 128 pixels."""
        try:
            with gzip.open(path) as file:
                lines = [line.split(b"\t", 6) for line in file]
            letters = np.array([ord(line[1]) for line in lines])
            drawings = [line[6].translate(None, b"\t\r\n") for line in lines]
        except (OSError, EOFError, zlib.error, IndexError, TypeError) as error:
            raise _wrong_file(path, str(error)) from error
        _check_count(path, len(lines), SPECS[self.name].num_images)
        labels = letters - ord("a")
        if {len(drawing) for drawing in drawings} != {128}:
            raise _wrong_file(path, "a line has not 128 pixels")
        pixels = np.frombuffer(b"".join(drawings), np.uint8) - ord("0")
        if np.any(pixels > 1) or labels.min() < 0 or labels.max() > 25:
            raise _wrong_file(path, "a pixel is not 0 or 1, or a letter not a to z")
        return (255 * pixels).reshape(-1, 16, 8, 1), labels


class FreyFaces(_OriginalFileBuilder):
    """One man's face in successive frames of a video: grey images 28 high and 20 wide.

    Collected by Brendan Frey. The splits are memjax's own, drawn by a seed.
    """

    VERSION = tfds.core.Version("1.0.0")
    URL = "https://cs.nyu.edu/~roweis/data/frey_rawface.mat"
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"The file {URL}; it is downloaded where it is missing."

    def read(self, path: Path) -> tuple[np.ndarray, np.ndarray]:
        """Reads the columns of the MATLAB variable `ff`, uint8 `[560, D]`; every label is 0."""
        try:
            columns = scipy.io.loadmat(path, variable_names=["ff"])["ff"]
        except Exception as error:  # SciPy has no one error for a file that is not MATLAB's
            raise _wrong_file(path, str(error)) from error
        if columns.dtype != np.uint8 or columns.ndim != 2 or len(columns) != 560:
            raise _wrong_file(path, f"ff is {columns.dtype} {list(columns.shape)}")
        _check_count(path, columns.shape[1], SPECS[self.name].num_images)
        return columns.T.reshape(-1, 28, 20, 1), np.zeros(columns.shape[1], np.int32)


def _check_count(path: Path, count: int, expected: int) -> None:
    if count != expected:
        raise _wrong_file(path, f"it holds {count} images, not {expected}")


def _wrong_file(path: Path, why: str) -> UserError:
    return UserError(f"{path} is not the original file ({why}): put an intact copy there")
