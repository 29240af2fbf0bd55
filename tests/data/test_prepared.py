"""TFDS sets of other people, as they lie prepared on a disk."""

import io
import json
import shutil
import sys

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from memjax import data
from memjax.errors import UserError

_GREY = np.random.default_rng(0).integers(0, 256, (20, 6, 5), np.uint8)
_SPLITS = {"with_test": {"train": 12, "test": 5, "extra": 3}, "without_test": {"train": 20}}


def encoded(image):
    file = io.BytesIO()
    PIL.Image.fromarray(image).save(file, format="PNG")
    file.seek(0)
    return file


class SmallPictures(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Grey images whose labels are their places."""

    VERSION = tfds.core.Version("1.2.0")
    BUILDER_CONFIGS = tuple(tfds.core.BuilderConfig(name=name) for name in _SPLITS)

    def _info(self):
        features = {"image": tfds.features.Image(shape=(6, 5, 1)), "label": np.int64}
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        sizes = _SPLITS[self.builder_config.name]
        starts = np.cumsum([0, *sizes.values()])
        return {s: self._generate_examples(starts[i], n) for i, (s, n) in enumerate(sizes.items())}

    def _generate_examples(self, start, count):
        for i in range(start, start + count):
            yield int(i), {"image": encoded(_GREY[i]), "label": int(i)}


class Unlabelled(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Two images of two sizes, and one without a size of its own."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict({"image": tfds.features.Image(shape=(None, 5, 1))})
        )

    def _split_generators(self, dl_manager):
        images = [_GREY[0], _GREY[1], _GREY[2, :4]]
        return {s: self._generate_examples(images[:n]) for s, n in (("train", 2), ("odd", 3))}

    def _generate_examples(self, images):
        for i, image in enumerate(images):
            yield i, {"image": encoded(image)}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Holds both sets."""
    folder = tmp_path_factory.mktemp("data")
    fields = {"data_dir": folder / "tfds", "file_format": "array_record"}
    for config in _SPLITS:
        SmallPictures(config=config, **fields).download_and_prepare()
    Unlabelled(**fields).download_and_prepare()
    return folder


def labels(data_dir, name, split, **fields):
    """The labels of a split, in order; its images must be theirs."""
    images, found, ink = data.load(f"tfds:small_pictures/{name}", split, data_dir, **fields)
    np.testing.assert_array_equal(images[..., 0], _GREY[found])
    assert not ink
    return sorted(found.tolist())


def refusal(name, split, data_dir):
    with pytest.raises(UserError) as error:
        data.load(name, split, data_dir)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_splits_are_the_sets_own(data_dir):
    assert labels(data_dir, "with_test", "train", test_fraction=0.5) == list(range(12))
    assert labels(data_dir, "with_test:1.2.0", "test") == list(range(12, 17))
    assert labels(data_dir, "with_test", "extra") == list(range(17, 20))
    assert len(labels(data_dir, "with_test", "train[:25%]+extra")) == 6
    told = refusal("tfds:small_pictures/with_test", "valid", data_dir)
    assert told.endswith("has no split 'valid': choose from train, test, extra")
    for slice_ in ("train[", "train[:x]", "train[:25]x", "", "train[5:5]"):
        assert "small_pictures" in refusal("tfds:small_pictures/with_test", slice_, data_dir)


def test_without_a_test_split_train_is_divided(data_dir):
    for fraction, count in ((0.1, 2), (0.5, 10)):
        train, test = (
            labels(data_dir, "without_test", split, test_fraction=fraction)
            for split in ("train", "test")
        )
        assert sorted(train + test) == list(range(20)) and len(test) == count
    assert len(labels(data_dir, "without_test", "train[:50%]")) == 10


def test_labels_may_be_missing_and_sizes_may_not_differ(data_dir):
    assert data.load("tfds:unlabelled", "train", data_dir).labels.tolist() == [-1]
    told = refusal("tfds:unlabelled", "odd", data_dir)
    assert told.startswith("tfds:unlabelled, image ") and "make all pictures the same size" in told


def test_a_set_that_is_not_there_is_told(data_dir):
    told = refusal("tfds:nothing", "train", data_dir)
    assert told.startswith(f"tfds:nothing is not in {data_dir / 'tfds'} and ")
    assert told.endswith(": set data_dir to the folder above it")
    told = refusal("tfds:small_pictures", "train", data_dir)
    assert "but tfds:small_pictures/with_test, tfds:small_pictures/without_test: set" in told
    assert "tfds:small_pictures/with_test:9.0.0 is not" in refusal(
        "tfds:small_pictures/with_test:9.0.0", "train", data_dir
    )


def copied(data_dir, tmp_path):
    """The folder of a copy of one set."""
    shutil.copytree(data_dir / "tfds/unlabelled", tmp_path / "tfds/unlabelled")
    return tmp_path / "tfds/unlabelled/1.0.0"


def test_the_newest_version_counts(data_dir, tmp_path):
    folder = copied(data_dir, tmp_path)
    shutil.copytree(folder, folder.with_name("0.10.0"))
    newest = folder.with_name("1.10.0")
    shutil.copytree(folder, newest)
    info = json.loads((newest / "dataset_info.json").read_text())
    (newest / "dataset_info.json").write_text(json.dumps(info | {"version": "1.10.0"}))
    (newest / "features.json").write_text("damaged")
    assert f"{newest} cannot be read" in refusal("tfds:unlabelled", "train", tmp_path)
    assert len(data.load("tfds:unlabelled:1.0.0", "train", tmp_path).images) == 1


def test_a_set_that_only_tensorflow_reads_is_told(data_dir, tmp_path):
    info = copied(data_dir, tmp_path) / "dataset_info.json"
    info.write_text(info.read_text().replace('"array_record"', '"tfrecord"'))
    told = refusal("tfds:unlabelled", "train", tmp_path)
    assert f"{info.parent} is in the format tfrecord, which only TensorFlow reads" in told
    assert "prepare it with file_format='array_record'" in told


def test_a_damaged_set_is_told(data_dir, tmp_path):
    folder = copied(data_dir, tmp_path)
    (record,) = folder.glob("*train*array_record*")
    record.write_bytes(b"damaged")
    told = refusal("tfds:unlabelled", "train", tmp_path)
    assert f"{folder} cannot be read (" in told and "delete it and prepare it again" in told


def test_without_tfds_the_message_says_so(data_dir, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    told = refusal("tfds:unlabelled", "train", data_dir)
    assert told == "tensorflow_datasets is not installed: pip install 'memjax[train]'"
