import json

import pytest
from absl import flags

from experiments import page, quickstart
from experiments.configs import (
    kanerva_digits,
    mem_vae_digits,
    vae_digits,
    vma_digits_recall,
)


@pytest.fixture
def few_steps(monkeypatch):
    """Lets the quickstart's configs train for a few steps."""
    for module in (vae_digits, mem_vae_digits, vma_digits_recall, kanerva_digits):
        config = module.get_config()
        config.training.num_steps = config.training.log_every = 4
        config.training.eval_every = config.training.checkpoint_every = 4
        config.optimizer.anneal_factor = 1.0  # annealing begins later than that
        monkeypatch.setattr(module, "get_config", lambda config=config: config)


def test_the_table_is_printed_and_written(tmp_path, monkeypatch, capsys):
    flags.FLAGS.unparse_flags()
    flags.FLAGS(["quickstart", f"--workdir={tmp_path}"])
    row = {"nll": 4.321, "floor": 4.159, "steps_per_second": 100.0}
    monkeypatch.setattr(quickstart, "train", lambda name, workdir: {"config": name} | row)
    monkeypatch.setattr(page, "write", lambda workdirs, path: path)
    quickstart.main()
    printed = capsys.readouterr().out
    assert printed.count("4.321") == 4 and "4.159" in printed
    assert printed.splitlines()[-1].endswith(str(tmp_path / "report.html"))
    rows = json.loads((tmp_path / "results.json").read_text())["table"]
    assert [row["config"] for row in rows] == list(quickstart._CONFIGS)


@pytest.mark.slow
def test_a_table_and_figures(tmp_path, few_steps, capsys):
    flags.FLAGS.unparse_flags()
    flags.FLAGS(["quickstart", f"--workdir={tmp_path}"])
    quickstart.main()
    printed = capsys.readouterr().out
    rows = json.loads((tmp_path / "results.json").read_text())["table"]
    assert [row["config"] for row in rows] == list(quickstart._CONFIGS)
    for row in rows:
        assert f"{row['nll']:.3f}" in printed and row["steps_per_second"] > 0
    for figure in ("samples", "reconstructions", "learning_curves"):
        for name in quickstart._CONFIGS:
            assert (tmp_path / name / "figures" / f"{figure}.png").exists()
    assert (tmp_path / "vma_digits_recall/figures/recall.png").exists()
    for name in quickstart._CONFIGS:
        own = (tmp_path / name / "report.html").read_text()
        task = "recall" if name == "vma_digits_recall" else "likelihood"
        assert (tmp_path / name / f"eval_{task}.json").exists() and f'id="{task}"' in own
        assert name in (tmp_path / "report.html").read_text()
