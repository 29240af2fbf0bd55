import re
import subprocess
import sys
from pathlib import Path

import pytest

_README = Path(__file__).parents[1] / "README.md"


def test_the_example_runs_and_reaches_its_bound():
    (program,) = re.findall(r"```python\n(.*?)```", _README.read_text(), re.DOTALL)
    command = [sys.executable, "-c", program]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    bound, exact = map(float, re.findall(r"-?\d+\.\d+", finished.stdout))
    assert bound == pytest.approx(exact, abs=0.05)


def test_its_links_and_files_exist():
    text = _README.read_text()
    names = re.findall(r"\]\((?!http)([^)]+)\)", text)
    files = r"experiments/configs/\w+\.py|(?<![\w/])memjax/\w+(?:\.py)?|tests/\w+\.py"
    names += re.findall(files, text)
    assert len(names) > 10
    for name in names:
        assert (_README.parent / name).exists(), name
