"""Each mistake of a user is answered by one line, and soon."""

import json
import os
import subprocess
import sys

import pytest

from tests.experiments.mistakes import MISTAKES


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mistakes")
    nowhere = {"MEMJAX_DATA_DIR": str(folder), "MEMJAX_CACHE_DIR": str(folder)}
    command = [sys.executable, "-m", "tests.experiments.mistakes", str(folder)]
    subprocess.run(command, env=os.environ | {"JAX_PLATFORMS": "cpu"} | nowhere, check=True)
    assert not (folder / "NEW").exists()
    return json.loads((folder / "answers.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_by_one_line_and_soon(answers, mistake):
    status, text, seconds = answers[mistake]
    *log, line = text.splitlines()
    assert status == 2 and line.startswith("error: ") and MISTAKES[mistake] in line, text
    # Beside it at most what the run is, or which checkpoint was passed over, with a time before it.
    assert all(entry[:2].isdigit() for entry in log), text
    assert seconds < 3.0  # of one core, without the import of JAX
