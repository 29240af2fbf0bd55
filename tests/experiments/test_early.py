"""What is refused before JAX is imported."""

import sys
from pathlib import Path

import pytest

from experiments import early, listing
from experiments.configs import default
from memjax.data import sources
from memjax.errors import UserError
from memjax.evaluation import pretrained
from tests.experiments.test_command_line import run


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        (
            "dataset.name",
            "mnits",
            "no data set 'mnits': choose from digits, .*; did you mean mnist?",
        ),
        ("dataset.name", "/no/such", "no data set '/no/such'"),
        ("model.name", "mem_vea.MemVAE", "models has no mem_vea; did you mean mem_vae?"),
        ("training.log_every", 0, "log_every is 0; it must be at least 1"),
        ("init_from", "nowhere", "init_from is nowhere; it must be the folder of a trained run"),
    ],
)
def test_configs_that_are_refused_early(field, value, words, tmp_path):
    config = default.get_config()
    config.update_from_flattened_dict({field: value})
    with pytest.raises(UserError, match=words.replace("?", "[?]")):
        early.check_config(config, tmp_path)


def test_configs_that_pass(tmp_path):
    assert early.data_sets() == list(sources.SPECS)
    assert early._PRETRAINED == pretrained.PREFIX
    for listed in listing.configs():
        early.check_config(listing.load(listed.name), tmp_path)
    config = default.get_config()
    config.dataset.name, config.model.name = str(tmp_path), "mine:Model"
    early.check_config(config, tmp_path)
    (tmp_path / "checkpoints").mkdir()
    config.init_from = "gone"
    early.check_config(config, tmp_path)  # it goes on where it was


def test_runs_that_are_refused_early(tmp_path):
    with pytest.raises(UserError, match=f"workdir {tmp_path} holds no run: it has no config.json"):
        early.check_run(tmp_path, "recall")
    (tmp_path / "config.json").touch()
    early.check_run(tmp_path)
    with pytest.raises(UserError, match="task is 'recal'; it must be one of addresses"):
        early.check_run(tmp_path, "recal")


@pytest.mark.slow
def test_jax_is_not_imported_to_refuse(tmp_path):
    (tmp_path / "jax.py").write_text("raise SystemExit('imported')")
    path = f"{tmp_path}:{Path(sys.path[0])}"
    for command, flags in [
        ("train", ["--config=experiments/configs/own_images.py", "--config.dataset.name=mnits"]),
        ("evaluate", ["--task=recall"]),
        ("report", []),
        ("playground", []),
    ]:
        refused = run(command, f"--workdir={tmp_path}/none", *flags, PYTHONPATH=path)
        assert refused.returncode == 2 and refused.stderr.startswith("error: "), refused.stderr
