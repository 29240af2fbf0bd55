import logging
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from memjax.data import load, loading, prepared, sources
from memjax.errors import UserError

_RNG = np.random.default_rng(0)
_TABLE = sources.Table(
    images=_RNG.integers(0, 256, (40, 6, 5, 1), np.uint8),
    labels=_RNG.integers(0, 3, 40, np.int32),
    splits=np.arange(40) // 30 == np.arange(2)[:, None],
)


class Source:
    """Stands in for a prepared TFDS set; counts how often it is read."""

    def __init__(self):
        self.reads = 0
        self.there = True

    def find(self, name, tfds_folders):
        return tfds_folders[0] if self.there else None

    def read(self, name, version):
        self.reads += 1
        return _TABLE


@pytest.fixture
def source(monkeypatch, tmp_path):
    """A set `tiny`, and folders of this test's own."""
    source = Source()
    spec = sources.Spec((6, 5, 1), 3, 40, {"train": 30, "test": 10})
    monkeypatch.setitem(sources.SPECS, "tiny", spec)
    monkeypatch.setattr(prepared, "find_version", source.find)
    monkeypatch.setattr(sources, "read_prepared", source.read)
    monkeypatch.setenv("MEMJAX_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("MEMJAX_CACHE_DIR", str(tmp_path / "home"))
    return source


def assert_is_tiny(split="train"):
    images, labels, ink = load("tiny", split)
    assert ink
    rows = slice(30) if split == "train" else slice(30, 40)
    np.testing.assert_array_equal(images, _TABLE.images[rows])
    np.testing.assert_array_equal(labels, _TABLE.labels[rows])


def test_a_set_is_read_once_and_then_cached(source, tmp_path):
    assert_is_tiny("train")
    assert_is_tiny("test")
    assert source.reads == 1
    assert [path.name for path in (tmp_path / "data/cache").iterdir()] == ["tiny.npz"]


def test_the_cache_needs_no_tfds(source, monkeypatch):
    load("tiny", "train")
    source.there = False
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)  # importing it raises
    assert_is_tiny("test")


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_cache_is_rebuilt(source, tmp_path, caplog, kept):
    load("tiny", "train")
    path = tmp_path / "data/cache/tiny.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with caplog.at_level(logging.WARNING, logger="memjax"):
        assert_is_tiny()
    assert source.reads == 2
    assert f"the cache file {path} is damaged" in caplog.text
    assert_is_tiny()
    assert source.reads == 2  # from the new cache


def test_no_flipped_byte_is_ever_trained_on(source, tmp_path):
    load("tiny", "train")
    path = tmp_path / "data/cache/tiny.npz"
    whole = path.read_bytes()
    for position in range(0, len(whole), 7):
        flipped = bytearray(whole)
        flipped[position] ^= 0x55
        path.write_bytes(bytes(flipped))
        assert_is_tiny()


@pytest.mark.parametrize(
    "changed",
    [
        {"images": _TABLE.images[:-1]},
        {"images": _TABLE.images.astype(np.float32)},
        {"images": np.array([{"an": "object"}], object)},
        {"labels": _TABLE.labels + 3},
        {"splits": ~_TABLE.splits},
        {"version": 0},
    ],
)
def test_a_cache_that_holds_something_else_is_rebuilt(source, tmp_path, changed):
    path = tmp_path / "data/cache/tiny.npz"
    path.parent.mkdir(parents=True)
    np.savez(path, **({"version": loading._CACHE_VERSION} | _TABLE._asdict() | changed))
    assert_is_tiny()
    assert source.reads == 1


def test_a_damaged_cache_without_a_source_is_refused(source, tmp_path):
    load("tiny", "train")
    path = tmp_path / "data/cache/tiny.npz"
    path.write_bytes(path.read_bytes()[:100])
    source.there = False
    with pytest.raises(UserError, match="is damaged") as error:
        load("tiny", "train")
    assert str(path) in str(error.value)


def test_a_missing_set_names_folder_and_command(source, tmp_path):
    source.there = False
    with pytest.raises(UserError) as error:
        load("tiny", "train")
    assert f"tiny is not in {tmp_path / 'data/tfds'}" in str(error.value)
    command = f"python -m memjax.data tiny --data_dir={tmp_path / 'data'}"
    assert command in str(error.value)
    assert not (tmp_path / "data").exists()


def test_a_read_only_data_dir_is_left_as_it_is(source, tmp_path):
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    data_dir.chmod(0o555)
    assert_is_tiny()
    assert not list(data_dir.iterdir())
    assert (tmp_path / "home/tiny.npz").exists()
    assert_is_tiny("test")
    assert source.reads == 1


def test_where_nothing_can_be_written_the_set_is_loaded_all_the_same(source, tmp_path, caplog):
    for name in ("data", "home"):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(0o555)
    with caplog.at_level(logging.WARNING, logger="memjax"):
        assert_is_tiny()
    assert "tiny is not cached" in caplog.text


def test_unknown_names_are_refused():
    with pytest.raises(UserError, match="no data set 'mnits': choose from digits, mnist, cifar10"):
        load("mnits", "train")
    with pytest.raises(UserError, match="digits has no split 'valid': choose from train, test"):
        load("digits", "valid")


def test_a_data_dir_argument_goes_before_the_environment(source, tmp_path):
    load("tiny", "train", tmp_path / "other")
    assert (tmp_path / "other/cache/tiny.npz").exists()
    assert not (tmp_path / "data").exists()


def _real_data_dir():
    beside = Path(__file__).parents[3] / "shared/data"
    return Path(os.environ.get("MEMJAX_DATA_DIR") or beside)


@pytest.mark.slow
@pytest.mark.skipif(not (_real_data_dir() / "tfds").exists(), reason="set MEMJAX_DATA_DIR")
@pytest.mark.parametrize("name", list(sources.SPECS))
def test_real_sets_are_what_the_table_says(name, monkeypatch, tmp_path):
    monkeypatch.setenv("MEMJAX_CACHE_DIR", str(tmp_path))
    spec = sources.SPECS[name]
    for split, size in spec.split_sizes.items():
        images, labels, ink = load(name, split, _real_data_dir())
        assert ink == (name not in ("cifar10", "frey_faces"))
        assert images.shape == (size, *spec.image_shape) and images.dtype == np.uint8
        assert labels.shape == (size,) and labels.dtype == np.int32
        if name.startswith("omniglot"):
            assert set(np.unique(images)) == {0, 255}
            assert images.mean() < 64  # ink is bright, and there is less of it than of paper
        if split == "fewshot_test":
            assert len(np.unique(labels)) == 144


@pytest.mark.slow
@pytest.mark.skipif(not (_real_data_dir() / "tfds").exists(), reason="set MEMJAX_DATA_DIR")
def test_fewshot_alphabets_share_no_character(monkeypatch, tmp_path):
    monkeypatch.setenv("MEMJAX_CACHE_DIR", str(tmp_path))
    train, test = (
        load("omniglot_26x26", split, _real_data_dir()).labels
        for split in ("fewshot_train", "fewshot_test")
    )
    assert len(np.unique(train)) + len(np.unique(test)) == 1623
