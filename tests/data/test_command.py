"""`python -m memjax.data`."""

import runpy
import sys

import pytest


def prepare(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["memjax.data", *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("memjax.data", run_name="__main__", alter_sys=True)
    return ended.value.code


def test_a_set_that_is_there_is_counted(monkeypatch, capsys):
    assert prepare(monkeypatch, "digits") == 0
    assert capsys.readouterr().out == "digits is prepared: its train split holds 1500 images\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mnits"], "there is no data set 'mnits'"),
        ([], "arguments are required: NAME"),
        (["mnist", "--dir=x"], "unrecognized arguments: --dir=x"),
        (["mnist"], "tensorflow is not installed: pip install 'memjax[prepare]'"),
    ],
)
def test_what_is_in_the_way_is_one_line(monkeypatch, capsys, tmp_path, arguments, message):
    monkeypatch.setenv("MEMJAX_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("MEMJAX_CACHE_DIR", str(tmp_path))
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    assert prepare(monkeypatch, *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line
