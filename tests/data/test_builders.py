import gzip
import http.server
import threading

import numpy as np
import pytest
import scipy.io

from memjax.data import builders, load, sources
from memjax.errors import UserError

_RNG = np.random.default_rng(0)
_LETTERS = _RNG.integers(0, 2, (20, 16, 8, 1)).astype(np.uint8) * 255
_LABELS = _RNG.integers(0, 26, 20)
_FACES = _RNG.integers(0, 256, (12, 28, 20, 1)).astype(np.uint8)


@pytest.fixture(autouse=True)
def small_originals(monkeypatch, tmp_path):
    """Lets the originals be small, and tests write to folders of their own."""
    splits = {"train": 12, "validation": 5, "test": 3}
    letters = sources.Spec((16, 8, 1), 26, 20, splits, has_own_builder=True)
    faces = sources.Spec((28, 20, 1), 1, 12, {"train": 8, "test": 4}, has_own_builder=True)
    monkeypatch.setitem(sources.SPECS, "ocr_letters", letters)
    monkeypatch.setitem(sources.SPECS, "frey_faces", faces)
    monkeypatch.setenv("MEMJAX_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("MEMJAX_CACHE_DIR", str(tmp_path / "home"))


def letter_lines():
    """As in letter.data: id, letter, next id, word id, position, fold, 128 pixels, a tab."""
    for i, (image, label) in enumerate(zip(_LETTERS, _LABELS, strict=True)):
        pixels = "\t".join(str(pixel) for pixel in image.reshape(-1) // 255)
        yield f"{i + 1}\t{chr(97 + label)}\t-1\t1\t1\t0\t{pixels}\t\n"


def write_letters(folder, lines):
    folder.mkdir(parents=True, exist_ok=True)
    with gzip.open(folder / "letter.data.gz", "wt") as file:
        file.writelines(lines)


def assert_holds_all(name, images, labels):
    """That the splits of a set hold each image once, with its label."""
    splits = [load(name, split) for split in sources.SPECS[name].split_sizes]
    found = [(image.tobytes(), label) for s in splits for image, label in zip(*s[:2], strict=True)]
    expected = [(image.tobytes(), label) for image, label in zip(images, labels, strict=True)]
    assert sorted(found) == sorted(expected)
    assert [len(s.images) for s in splits] == list(sources.SPECS[name].split_sizes.values())


def test_letters_are_read_from_the_manual_folder(tmp_path):
    write_letters(tmp_path / "data/manual", letter_lines())
    assert_holds_all("ocr_letters", _LETTERS, _LABELS)
    assert list((tmp_path / "data/tfds/ocr_letters").glob("*/dataset_info.json"))


def test_faces_are_read_from_the_manual_folder(tmp_path):
    (tmp_path / "data/manual").mkdir(parents=True)
    columns = _FACES.reshape(12, 560).T
    scipy.io.savemat(tmp_path / "data/manual/frey_rawface.mat", {"ff": columns})
    assert_holds_all("frey_faces", _FACES, np.zeros(12))


def test_a_read_only_data_dir_is_prepared_elsewhere(tmp_path):
    write_letters(tmp_path / "data/manual", letter_lines())
    for folder in (tmp_path / "data/manual", tmp_path / "data"):
        folder.chmod(0o555)
    assert_holds_all("ocr_letters", _LETTERS, _LABELS)
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["manual"]


def test_a_missing_original_is_downloaded(tmp_path, monkeypatch):
    write_letters(tmp_path / "served", letter_lines())

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(tmp_path / "served"))

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/letter.data.gz"
        monkeypatch.setattr(builders.OcrLetters, "URL", url)
        assert_holds_all("ocr_letters", _LETTERS, _LABELS)
        server.shutdown()


def test_without_original_and_network_the_message_says_where_to_put_it(tmp_path, monkeypatch):
    monkeypatch.setattr(builders.FreyFaces, "URL", "http://127.0.0.1:9/frey_rawface.mat")
    with pytest.raises(UserError) as error:
        load("frey_faces", "train")
    assert f"{tmp_path / 'data/manual/frey_rawface.mat'} is missing" in str(error.value)
    assert "put the file there" in str(error.value)


def one_changed(index, old, new):
    lines = list(letter_lines())
    lines[index] = lines[index].replace(old, new)
    return lines


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (list(letter_lines())[:-1], "it holds 19 images, not 20"),
        ([line[:-4] + "\n" for line in letter_lines()], "128 pixels"),
        (one_changed(3, "\t1\t", "\t2\t"), "a pixel is not 0 or 1"),
        ([line.replace("\t", ",") for line in letter_lines()], "index out of range"),
    ],
)
def test_wrong_letters_are_refused(tmp_path, lines, why):
    write_letters(tmp_path / "data/manual", lines)
    with pytest.raises(UserError, match="is not the original file") as error:
        load("ocr_letters", "train")
    assert why in str(error.value)
    assert not (tmp_path / "data/cache").exists()


def test_a_truncated_original_is_refused(tmp_path):
    write_letters(tmp_path / "data/manual", letter_lines())
    path = tmp_path / "data/manual/letter.data.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match="put an intact copy there"):
        load("ocr_letters", "train")
    write_letters(tmp_path / "data/manual", letter_lines())
    assert_holds_all("ocr_letters", _LETTERS, _LABELS)  # nothing of the failure is left


@pytest.mark.parametrize("columns", [np.zeros((559, 12), np.uint8), np.zeros((560, 12))])
def test_wrong_faces_are_refused(tmp_path, columns):
    (tmp_path / "data/manual").mkdir(parents=True)
    path = tmp_path / "data/manual/frey_rawface.mat"
    scipy.io.savemat(path, {"ff": columns})
    with pytest.raises(UserError, match="is not the original file"):
        load("frey_faces", "train")
    path.write_text("not MATLAB's")
    with pytest.raises(UserError, match="is not the original file"):
        load("frey_faces", "train")
