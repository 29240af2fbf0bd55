"""The documentation's pictures are made by a command."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.experiments.test_command_line import run

_DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.slow
def test_the_drawn_picture_is_the_one_in_docs(tmp_path):
    assert run("figures", "--name=forgetting", f"--output={tmp_path}").returncode == 0
    drawn, shown = (
        np.asarray(Image.open(folder / "forgetting.png").convert("L").resize((740, 80)), np.float32)
        for folder in (tmp_path, _DOCS)
    )
    assert np.mean(np.abs(drawn - shown)) < 3.0  # of 255; another digit's are far beyond


def test_every_picture_in_docs_has_its_command():
    (section,) = re.findall(
        r"## The pictures of.*?\n## ", (_DOCS / "commands.md").read_text(), re.S
    )
    names = {path.stem for path in _DOCS.glob("*.png")}
    assert names == {name for name in names if re.search(rf"\b{name}\b", section)}
    assert names >= {"recall", "generate", "impute"}


@pytest.mark.slow
def test_two_ways_to_begin_a_learned_memory_are_drawn(tmp_path):
    finished = run("collapse", f"--workdir={tmp_path}", "--num_steps=2")
    if "mnist is not in" in finished.stderr:
        pytest.skip("set MEMJAX_DATA_DIR")
    assert finished.returncode == 0, finished.stderr
    assert Image.open(tmp_path / "collapse.png").size == (1320, 726)


@pytest.mark.slow
def test_a_picture_of_a_run_is_copied(tmp_path):
    source = tmp_path / "recall_256/figures/recall.png"
    arguments = ("--name=recall", f"--runs={tmp_path}", f"--output={tmp_path}")
    source.parent.mkdir(parents=True)
    source.write_bytes(b"picture")
    assert run("figures", *arguments).returncode == 0
    assert (tmp_path / "recall.png").read_bytes() == b"picture"
