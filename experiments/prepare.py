"""Downloads and prepares a data set: python -m experiments.prepare --name=mnist --data_dir=DIR.

MNIST, CIFAR-10 and Omniglot need TensorFlow for it (pip install 'memjax[prepare]'), and a network.
The OCR letters and the Frey faces need only the original file: where `letter.data.gz` or
`frey_rawface.mat` lies in `manual/` of the folder, no network either.
"""

from collections.abc import Sequence

from absl import flags

from experiments import cli
from memjax.errors import UserError

_NAME = flags.DEFINE_string("name", None, "Data set; see memjax.data.load.", required=True)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder for it; see memjax.data.load.")

# The sets whose official TFDS builders prepare them, and where those download from.
_SERVERS = {
    "mnist": "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "cifar10": "https://www.cs.toronto.edu/~kriz/",
    "omniglot": "https://github.com/brendenlake/omniglot/",
}


def main(argv: Sequence[str]) -> None:
    """Prepares the set, then decodes it into the cache."""
    del argv
    # Imported after the flags are parsed, so that --help and a wrong flag answer at once.
    from memjax.data import loading

    name, data_dir = _NAME.value, _DATA_DIR.value
    folders = loading.find_folders(data_dir)
    official = name.partition("_")[0]  # the smaller Omniglots are made from the official one
    if official in _SERVERS and loading.find_prepared(official, folders) is None:
        _prepare_official(official, loading.first_writable(folders.tfds))
    images = loading.load(name, "train", data_dir).images
    print(f"{name} is prepared: its train split holds {len(images)} images")


def _prepare_official(name: str, tfds_folder) -> None:
    try:
        import tensorflow  # noqa: F401
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise UserError(
            f"to prepare {name} needs TensorFlow ({error}): pip install 'memjax[prepare]'"
        ) from error
    from memjax.data import builders

    if not builders.is_reachable(_SERVERS[name]):
        raise UserError(f"{name} is downloaded from {_SERVERS[name]}, which cannot be reached")
    builder = tfds.builder(name, data_dir=tfds_folder, file_format="array_record")
    try:
        builder.download_and_prepare()
    except (OSError, tfds.download.DownloadError) as error:
        raise UserError(f"{name} cannot be prepared in {tfds_folder}: {error}") from error


if __name__ == "__main__":
    cli.run(main)
