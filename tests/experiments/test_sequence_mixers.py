"""Layers that mix tokens, compared: what is asked of them, and the command.

Each test is a process of its own: the commands' flags have names in common.
"""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

_DRAWS = """
import jax
import numpy as np
from absl import flags

from experiments import sequence_mixers

flags.FLAGS(["sequence_mixers", "--workdir=unused"])
draw, _, vocabulary = sequence_mixers.recall()
tokens, answers = map(np.asarray, draw(jax.random.key(0), 5))
for row, wanted in zip(tokens, answers, strict=True):
    told = dict(zip(row[0:32:2], row[1:32:2], strict=True))
    assert len(told) == 16 and max(told) < 64 <= min(told.values()) and row.max() < vocabulary
    assert [told[key] for key in row[32:]] == [*wanted[32:]] and (wanted[:32] == -1).all()
    assert sorted(row[32:]) == sorted(told)
train, test, vocabulary = sequence_mixers.text()
(tokens, following), (other, _) = (draw(jax.random.key(0), 4) for draw in (train, test))
np.testing.assert_array_equal(tokens[:, 1:], following[:, :-1])
assert tokens.shape == (4, 128) and tokens.max() < vocabulary
assert not np.array_equal(tokens, other)
"""


def test_questions_have_the_answers_that_were_told_and_test_text_is_other_text():
    subprocess.run([sys.executable, "-c", _DRAWS], check=True)


def run(folder, *arguments, command="sequence_mixers"):
    small = ["--num_steps=2", "--batch_size=2"]
    if command == "sequence_mixers":
        small += ["--key_sizes=2", "--seeds=0", "--width=8"]
    typed = [sys.executable, "-m", f"experiments.{command}", f"--workdir={folder}"]
    return subprocess.run([*typed, *small, *arguments], capture_output=True, text=True)


@pytest.mark.parametrize("task", ["recall", "text"])
def test_the_command_goes_on_where_it_stopped(tmp_path, task):
    for mixers in ("softmax,kanerva", "softmax,kanerva,gated_delta"):
        finished = run(tmp_path, f"--task={task}", f"--mixers={mixers}")
        assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("gated_delta") == 1 and "kanerva " not in finished.stdout
    rows = json.loads((tmp_path / f"{task}.json").read_text())["table"]
    assert [row["mixer"] for row in rows] == ["softmax", "kanerva", "gated_delta"]
    assert ("erased %" in rows[1]) == (task == "recall") and (tmp_path / f"{task}.png").exists()
    finished = run(tmp_path, f"--task={task}", "--num_pairs=3")
    assert finished.returncode == 2 and "is of other settings" in finished.stderr


@pytest.mark.parametrize(
    ("argument", "line"),
    [
        ("--mixers=lstm", "mixers is 'lstm'"),
        ("--key_sizes=0", "key_sizes"),
        ("--key_sizes=a", "key_sizes"),
    ],
)
def test_a_wrong_argument_is_named(tmp_path, argument, line):
    finished = run(tmp_path, argument)
    assert finished.returncode == 2 and line in finished.stderr, finished.stderr
    assert len(finished.stderr.strip().splitlines()) == 1


def test_a_transformer_recalls_with_each_memory(tmp_path):
    memories = ["none", "kanerva", "categorical"]
    finished = run(tmp_path, f"--memories={','.join(memories)}", command="associative_recall")
    assert finished.returncode == 0, finished.stderr
    rows = json.loads((tmp_path / "recall.json").read_text())["table"]
    assert [row["memory"] for row in rows] == memories
    assert all(0.0 <= row["accuracy %"] <= 100.0 and row["nll"] > 0.0 for row in rows)
    assert rows[0]["parameters"] < rows[1]["parameters"]
