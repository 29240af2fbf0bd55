import re
import subprocess
import sys
from pathlib import Path

_README = Path(__file__).parents[1] / "README.md"


def test_the_example_runs_and_recalls_what_it_wrote():
    (program,) = re.findall(r"```python\n(.*?)```", _README.read_text(), re.DOTALL)
    command = [sys.executable, "-c", program]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    error, sure, unsure = map(float, re.findall(r"\d+\.\d+", finished.stdout))
    assert error < 0.001 and sure < 0.02 and unsure > 0.8


def test_its_links_and_files_exist():
    text = _README.read_text()
    names = re.findall(r"\]\((?!http)([^)]+)\)", text)
    files = r"experiments/configs/\w+\.py|(?<![\w/])memjax/\w+(?:\.py)?|tests/\w+\.py"
    names += re.findall(files, text)
    assert len(names) > 10
    for name in names:
        assert (_README.parent / name.partition("#")[0]).exists(), name
