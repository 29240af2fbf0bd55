import numpy as np
import PIL.Image
import pytest

from memjax import data
from memjax.data import sources
from memjax.errors import UserError

_RNG = np.random.default_rng(0)
_GREY = _RNG.integers(0, 256, (20, 6, 5), np.uint8)
_COLOUR = _RNG.integers(0, 256, (20, 6, 5, 3), np.uint8)


def refusal(path, split="train", **fields):
    """The one line with which a data set is refused."""
    with pytest.raises(UserError) as error:
        data.load(path, split, **fields)
    assert "\n" not in str(error.value)
    return str(error.value)


def write(folder, images, suffix="png"):
    """Pictures 00, 01, ... of uint8 images [D, H, W] or [D, H, W, C]."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        PIL.Image.fromarray(image).save(folder / f"{i:02}.{suffix}")
    return folder


def load_all(path, **fields):
    """Both splits, as the images of each by their bytes, with labels."""
    splits = [data.load(path, split, **fields) for split in ("train", "test")]
    return [
        {(image.tobytes(), int(label)) for image, label in zip(s.images, s.labels, strict=True)}
        for s in splits
    ]


# Files of NumPy's.


@pytest.mark.parametrize("images", [_GREY, _COLOUR, _GREY / 255])
def test_an_array_is_divided_by_fraction_and_seed(tmp_path, images):
    np.save(tmp_path / "mine.npy", images)
    whole = data.from_arrays(images)
    for fields in ({}, {"test_fraction": 0.4, "split_seed": 5}):
        expected = whole.split(fields.get("test_fraction", 0.1), fields.get("split_seed", 0))
        for split, part in zip(("train", "test"), expected, strict=True):
            loaded = data.load(str(tmp_path / "mine.npy"), split, **fields)
            np.testing.assert_array_equal(loaded.images, part.images)
            np.testing.assert_array_equal(loaded.labels, part.labels)
            assert not loaded.ink


def test_an_archive_of_images_and_labels(tmp_path):
    np.savez(tmp_path / "mine.npz", images=_GREY, labels=np.arange(20), more=np.zeros(3))
    train, test = load_all(tmp_path / "mine.npz")
    assert train | test == {(_GREY[i].tobytes(), i) for i in range(20)} and len(test) == 2
    np.savez_compressed(tmp_path / "mine.npz", images=_COLOUR)
    train, test = load_all(tmp_path / "mine.npz")
    assert train | test == {(image.tobytes(), -1) for image in _COLOUR}


def test_an_archive_may_have_splits_of_its_own(tmp_path):
    path = tmp_path / "mine.npz"
    np.savez(path, train_images=_GREY[:9], train_labels=np.arange(9), test_images=_GREY[9:])
    train, test = (data.load(path, split, test_fraction=0.5) for split in ("train", "test"))
    np.testing.assert_array_equal(train.images[..., 0], _GREY[:9])
    np.testing.assert_array_equal(train.labels, np.arange(9))
    np.testing.assert_array_equal(test.images[..., 0], _GREY[9:])
    assert refusal(path, "val").endswith("mine.npz has no split 'val': choose from train, test")
    # Without a test split the train split is divided, and no other.
    np.savez(path, train_images=_GREY[:10], val_images=_GREY[10:])
    assert [len(data.load(path, s).images) for s in ("train", "val", "test")] == [9, 10, 1]
    assert "choose from train, val, test (0.1 of train, by seed 0)" in refusal(path, "valid")


def test_paths_count_from_the_current_folder_and_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for path in ("here.npy", "home/there.npy", "digits.npy"):
        (tmp_path / "home").mkdir(exist_ok=True)
        np.save(path, _GREY)
    (tmp_path / "pictures").mkdir()
    write(tmp_path / "digits", _GREY)
    for name in ("here.npy", "./here.npy", "~/there.npy", "./digits"):
        assert data.load(name, "train", tmp_path / "elsewhere").images.shape == (18, 6, 5, 1)
    ours = sources.Table(np.zeros((4, 8, 8, 1)), np.zeros(4), np.ones((2, 4), bool))
    monkeypatch.setattr(sources, "read_digits", lambda: ours)
    assert data.load("digits", "train").images.shape == (4, 8, 8, 1)  # which goes first
    assert "pictures holds no picture" in refusal("pictures")


@pytest.mark.parametrize("name", ["no/such", "gone.npy", "gone.npz", "~/gone", "~nobody/gone"])
def test_what_is_not_there_is_told_by_its_path(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refusal(name).startswith("there is no file or folder ")
    assert f"counted from {tmp_path}" in refusal(name)


def test_other_files_are_refused(tmp_path):
    (tmp_path / "mine.h5").write_bytes(b"...")
    assert "mine.h5 is no data set: choose a .npy or .npz file" in refusal(tmp_path / "mine.h5")
    for name in ("", "nothing", "mnits", "\0", "x" * 300):
        assert "a path to a .npy or .npz file or a folder of images, or tfds:NAME" in refusal(name)


class Trap:
    """Its pickle would make a file if it were loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_pickles_are_never_loaded(tmp_path):
    trap = np.array([Trap(str(tmp_path / "sprung"))], object)
    np.save(tmp_path / "mine.npy", trap, allow_pickle=True)
    np.savez(tmp_path / "images.npz", images=trap)
    np.savez(tmp_path / "labels.npz", images=_GREY, labels=trap)
    (tmp_path / "bare.npy").write_bytes(trap.dumps())
    for name in ("mine.npy", "images.npz", "labels.npz", "bare.npy"):
        assert f"{name} cannot be read (it holds pickled objects" in refusal(tmp_path / name)
    assert not (tmp_path / "sprung").exists()


def test_what_arrays_hold_is_checked_and_told_with_the_file(tmp_path):
    path = tmp_path / "mine.npz"
    np.savez(path, images=_GREY.astype(np.uint16))
    assert refusal(path).startswith(f"{path}: images is uint16 [20, 6, 5]; it must be uint8")
    np.savez(path, images=_GREY, labels=np.zeros(19, int))
    assert refusal(path).startswith(f"{path}: labels is int64 [19]; there are 20 images")
    np.savez(path, images=_GREY[:1])
    assert refusal(path) == f"{path}: images holds 1; to divide them takes at least 2"
    np.savez(path, x_train=_GREY, y_train=_GREY)
    assert f"{path} holds the arrays x_train, y_train; it must hold images" in refusal(path)
    np.savez(path)
    assert f"{path} holds the arrays none; it must hold images" in refusal(path)


@pytest.mark.parametrize("suffix", ["npy", "npz"])
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_damaged_files_are_told(tmp_path, suffix, kept):
    path = tmp_path / f"mine.{suffix}"
    np.save(path, _GREY) if suffix == "npy" else np.savez(path, images=_GREY)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    assert f"{path} cannot be read (" in refusal(path)


# Folders of pictures.


@pytest.mark.parametrize("suffix", ["png", "bmp", "gif", "PNG", "webp"])
def test_a_folder_of_grey_pictures(tmp_path, suffix):
    images = _GREY if suffix != "webp" else _COLOUR  # which knows no grey
    write(tmp_path / "mine", images, suffix)
    (tmp_path / "mine/readme.txt").write_text("not a picture")
    (tmp_path / "mine/.hidden.png").write_text("not a picture")
    train, test = (data.load(tmp_path / "mine", split) for split in ("train", "test"))
    assert train.images.shape == (18, 6, 5, 1 if suffix != "webp" else 3)
    assert not train.ink and set(train.labels) == {-1}
    if suffix != "webp":  # which loses something here
        expected = data.from_arrays(images).split()
        np.testing.assert_array_equal(train.images, expected[0].images)
        np.testing.assert_array_equal(test.images, expected[1].images)


def test_a_folder_of_colours(tmp_path):
    write(tmp_path, _COLOUR)
    train, test = load_all(tmp_path, test_fraction=0.3, split_seed=1)
    assert train | test == {(image.tobytes(), -1) for image in _COLOUR} and len(test) == 6
    write(tmp_path / "jpegs", _COLOUR, "jpg")
    assert data.load(tmp_path / "jpegs", "train").images.shape == (18, 6, 5, 3)


def test_a_grey_picture_among_colours_is_read_as_colour(tmp_path):
    write(tmp_path, [_GREY[0], *_COLOUR[1:4]])
    train, test = load_all(tmp_path)
    grey = np.repeat(_GREY[0][..., None], 3, axis=-1)
    assert train | test == {(image.tobytes(), -1) for image in (grey, *_COLOUR[1:4])}


def test_subfolders_are_classes_in_sorted_order(tmp_path):
    for name, images in (("dog", _GREY[:4]), ("Cat", _GREY[4:7]), ("train", _GREY[7:])):
        write(tmp_path / name, images)
    (tmp_path / ".cache").mkdir()
    train, test = load_all(tmp_path)
    labels = [1] * 4 + [0] * 3 + [2] * 13
    assert train | test == {(_GREY[i].tobytes(), labels[i]) for i in range(20)}


def test_subfolders_named_as_splits_are_splits(tmp_path):
    write(tmp_path / "train/cat", _GREY[:4])
    write(tmp_path / "train/dog", _GREY[4:8])
    write(tmp_path / "test/dog", _GREY[8:])  # which is class 1 here too
    train, test = load_all(tmp_path)
    assert train == {(_GREY[i].tobytes(), int(i >= 4)) for i in range(8)}
    assert test == {(image.tobytes(), 1) for image in _GREY[8:]}
    assert "has no split 'val': choose from test, train" in refusal(tmp_path, "val")


def test_a_bad_picture_in_a_class_is_named_with_its_path(tmp_path):
    write(tmp_path / "cat", _GREY)
    path = write(tmp_path / "dog", _GREY) / "07.png"
    path.write_bytes(path.read_bytes()[:50])
    assert refusal(tmp_path).startswith(f"{path} cannot be read as a picture (")


def test_folders_that_are_no_data_set_are_refused(tmp_path):
    (tmp_path / "mine").mkdir()
    assert refusal(tmp_path / "mine").startswith(f"{tmp_path / 'mine'} holds no picture, by its")
    (tmp_path / "mine/notes.txt").write_text("no picture")
    assert refusal(tmp_path / "mine").startswith(f"{tmp_path / 'mine'} holds no picture, by its")
    write(tmp_path / "mine", _GREY[:1])
    assert refusal(tmp_path / "mine").endswith(
        "mine: images holds 1; to divide them takes at least 2"
    )
    write(tmp_path / "mine/cat", _GREY[:1])
    assert "holds both pictures (00.png) and folders (cat)" in refusal(tmp_path / "mine")
    write(tmp_path / "classes/cat", _GREY)
    (tmp_path / "classes/dog").mkdir()
    told = refusal(tmp_path / "classes")
    assert f"{tmp_path / 'classes/dog'} holds no picture" in told and "is a class" in told
    write(tmp_path / "deep/cat/black", _GREY)
    assert f"{tmp_path / 'deep/cat/black'} is a folder within a class" in refusal(tmp_path / "deep")
    assert "test_fraction is 2; it must be" in refusal(
        write(tmp_path / "good", _GREY), test_fraction=2
    )
