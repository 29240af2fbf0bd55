"""A grid of runs and the comparison of them."""

import json
from types import SimpleNamespace

import pytest

from experiments import charts, reporting
from memjax.errors import UserError
from memjax.evaluation import Curves, Report
from tests.experiments.test_command_line import _TINY, run


@pytest.mark.slow
def test_a_sweep_trains_and_compares(tmp_path, capsys):
    arguments = [
        f"--config={_TINY}",
        f"--workdir={tmp_path}",
        "--vary=seed=0,1",
        "--vary=optimizer.learning_rate=0.001",
    ]
    first = run("sweep", *arguments)
    assert first.returncode == 0, first.stderr
    names = ["seed-0_learning_rate-0.001", "seed-1_learning_rate-0.001"]
    assert all((tmp_path / name / "metrics.jsonl").exists() for name in names)
    rows = json.loads((tmp_path / "compare_training.json").read_text())["table"]
    assert [row["run"] for row in rows] == names
    assert rows[0]["nll"] != rows[1]["nll"]
    assert (tmp_path / "figures/learning_curves.png").exists()
    assert (tmp_path / "figures/over_seeds.png").exists()
    mean = (rows[0]["nll"] + rows[1]["nll"]) / 2
    assert f"{mean:.3f} ± " in first.stdout
    assert "all (2 runs)" in (tmp_path / "report.html").read_text()

    workdirs = {"one": tmp_path / names[0], "two": tmp_path / names[1]}
    charts.compare(workdirs, tmp_path / "compared")
    assert "two" in capsys.readouterr().out
    assert (tmp_path / "compared/figures/learning_curves.png").exists()
    with pytest.raises(UserError, match=r"run one has no eval_likelihood\.json: evaluate"):
        charts.compare(workdirs, tmp_path / "compared", "likelihood")
    (tmp_path / names[0] / "metrics.jsonl").unlink()
    with pytest.raises(UserError, match="run one was never evaluated in training"):
        charts.compare(workdirs, tmp_path / "compared")


@pytest.mark.slow
def test_a_sweep_goes_on_where_it_was_stopped(tmp_path):
    arguments = [f"--config={_TINY}", f"--workdir={tmp_path}", "--vary=seed=0,1"]
    first = run("sweep", *arguments)
    again = run("sweep", *arguments)
    assert again.stderr.count("nothing to do") == 2 and again.stdout == first.stdout


def test_evaluations_are_compared_line_by_line_and_over_seeds(tmp_path, capsys):
    workdirs = {name: tmp_path / name for name in ("a", "b")}
    for seed, workdir in enumerate(workdirs.values()):
        reporting.write_json(workdir / "config.json", {"seed": seed})
        panel = Curves("x", "y", {"line": ([0, 1], [seed, seed])})
        report = Report([{"nll": 1.0 + seed}], curves={"capacity": {"nll": panel}})
        reporting.write_report(workdir, "capacity", 1, {}, report)
    charts.compare(workdirs, tmp_path / "both", "capacity")
    rows = json.loads((tmp_path / "both/compare_capacity.json").read_text())["table"]
    assert rows == [{"run": "a", "nll": 1.0}, {"run": "b", "nll": 2.0}]
    figures = {path.stem for path in (tmp_path / "both/figures").glob("*.png")}
    assert figures == {"capacity", "over_seeds"}
    assert "all (2 runs)  1.500 ± 0.707" in capsys.readouterr().out


def test_runs_are_told_over_seeds():
    def run(seed, rate):
        config = {"seed": seed, "optimizer.learning_rate": rate}
        return SimpleNamespace(name=f"{seed} {rate}", config=config)

    runs = [run(0, 0.1), run(1, 0.1), run(0, 0.2)]
    groups = charts.over_seeds(runs)
    assert groups == {"learning_rate-0.1 (2 runs)": runs[:2], "learning_rate-0.2 (1 run)": runs[2:]}
    alone = charts.over_seeds(runs[1:])
    assert alone == {"1 0.1": [runs[1]], "0 0.2": [runs[2]]}


def test_numbers_that_are_not_finite_are_told():
    assert charts.mean_and_spread([1.0, float("nan")]) == "nan ± nan"
    assert charts.mean_and_spread([1.0, 3.0]) == "2.000 ± 1.414"
    assert charts.statistics([1.0, 3.0]) == (2.0, pytest.approx(2**0.5))
    panels = {"nll": Curves("step", "nats", {"": ([1, 2], [1.0, float("inf")])})}
    (average,) = charts.average([panels, panels]).values()
    assert average.lines[""] == ([1, 2], [1.0, float("inf")])
    assert average.spread[""][0] == 0.0
