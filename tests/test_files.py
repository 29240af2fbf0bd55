import pytest

from memjax import files


def test_folders_that_can_be_written(tmp_path):
    (tmp_path / "locked").mkdir()
    (tmp_path / "locked").chmod(0o555)
    (tmp_path / "file").write_text("")
    assert files.is_writable(tmp_path)
    assert files.is_writable(tmp_path / "to/be/made")
    assert not files.is_writable(tmp_path / "locked")
    assert not files.is_writable(tmp_path / "locked/inside")
    assert not files.is_writable(tmp_path / "file")
    assert not files.is_writable(tmp_path / "file/inside")


def test_text_replaces_text_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    for text in ("one", "two"):
        files.write_text(path, text)
        assert path.read_text() == text
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_text(tmp_path):
    path = tmp_path / "a.json"
    files.write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        files.write_text(path, "new \ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
