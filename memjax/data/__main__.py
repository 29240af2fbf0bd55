"""Prepares a data set: python -m memjax.data NAME [--data_dir=DIR].

MNIST, CIFAR-10 and Omniglot need TensorFlow for it (pip install 'memjax[prepare]'), and a network.
The OCR letters and the Frey faces need only the original file: where `letter.data.gz` or
`frey_rawface.mat` lies in `manual/` of the folder, no network either.
"""

import argparse
import sys
from pathlib import Path
from typing import NoReturn

from memjax.data import loading, prepared, sources
from memjax.errors import UserError, print_error
from memjax.extras import needs

# The sets whose official TFDS builders prepare them, and where those download from.
_SERVERS = {
    "mnist": "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "cifar10": "https://www.cs.toronto.edu/~kriz/",
    "omniglot": "https://github.com/brendenlake/omniglot/",
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:  # its own adds lines
        self.exit(2, f"error: {message}\n")


def main() -> int:
    """Prepares the set; an error is one line, with exit status 2."""
    parser = _Parser("python -m memjax.data", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("name", metavar="NAME", help=", ".join(sources.SPECS))
    parser.add_argument("--data_dir", metavar="DIR", help="folder for it; see memjax.data.load")
    arguments = parser.parse_args()
    try:
        print(prepare(arguments.name, arguments.data_dir))
    except (UserError, OSError) as error:
        print_error(error)
        return 2
    return 0


def prepare(name: str, data_dir: str | None = None) -> str:
    """Prepares a set, where that is still to be done, decodes it into the cache and says so.

    Raises:
      UserError: no such set, no package that it takes, no network, or no folder to write to.
    """
    folders = loading.find_folders(data_dir)
    official = name.partition("_")[0]  # the smaller Omniglots are made from the official one
    if official in _SERVERS and prepared.find_version(official, folders.tfds) is None:
        _prepare_official(official, loading.first_writable(folders.tfds))
    images = loading.load(name, "train", data_dir).images
    return f"{name} is prepared: its train split holds {len(images)} images"


def _prepare_official(name: str, tfds_folder: Path) -> None:
    with needs("prepare"):
        import tensorflow  # noqa: F401
        import tensorflow_datasets as tfds

        from memjax.data import builders
    if not builders.is_reachable(_SERVERS[name]):
        raise UserError(f"{name} is downloaded from {_SERVERS[name]}, which cannot be reached")
    builder = tfds.builder(name, data_dir=tfds_folder, file_format="array_record")
    try:
        builder.download_and_prepare()
    except (OSError, tfds.download.DownloadError) as error:
        raise UserError(f"{name} cannot be prepared in {tfds_folder}: {error}") from error


if __name__ == "__main__":
    sys.exit(main())
