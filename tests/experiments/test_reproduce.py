"""Every recipe is one that the commands accept, and a small one is carried out."""

import itertools
import sys

import pytest

from experiments import cli, listing, plan, reporting
from experiments.plan import Plan
from experiments.recipes import RECIPES
from experiments.recipes.recipe import Recipe, Training
from memjax.errors import UserError
from memjax.evaluation import Report, tasks
from tests.experiments.test_command_line import assert_refused, run

_TINY = {"training.num_steps": 20, "training.log_every": 10, "training.eval_every": 10}
_TINY |= {"training.checkpoint_every": 10}
_RECIPE = Recipe(
    "a test",
    {"VAE": Training("vae_digits", {"seed": 1}, _TINY, 1)},
    {"VAE: likelihood[samples=2|3].nll": 1.5},
    options={"likelihood": [{"num_samples": 2}, {"num_queries": 100}]},
)


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_fits_its_configs_and_tasks(tmp_path, name, small):
    steps = Plan(RECIPES[name], tmp_path, small)
    for training in steps.recipe.runs.values():
        config = listing.load(training.config).lock()
        config.update_from_flattened_dict(steps.fields(training))
        assert steps.num_steps(training) == config.training.num_steps
        assert config.training.num_steps % config.training.checkpoint_every == 0
        assert config.training.eval_every % config.training.log_every == 0
        if config.optimizer.anneal_factor != 1.0:
            assert config.optimizer.anneal_start < config.training.num_steps
        assert training.small_minutes > 0
    assert steps.recipe.options.keys() <= set(tasks.names())
    for run_name, task in steps.recipe.tasks:
        typed = steps.evaluate(run_name, task).arguments
        options = [a.removeprefix("--option=") for a in typed if a.startswith("--option=")]
        assert cli.parse_options(tasks.find(task).evaluate, options) == steps.options(task)
    text = steps.text()
    assert all(str(command) in text for command in steps.commands())


def test_a_folder_is_of_one_config_and_a_file_of_one_evaluation(tmp_path):
    """Recipes and budgets share runs, so the same folder must be the same run."""
    plans = [Plan(r, tmp_path, small) for small in (False, True) for r in RECIPES.values()]
    trainings = [(p, t) for p in plans for t in p.recipe.runs.values()]
    for (p, a), (q, b) in itertools.combinations(trainings, 2):
        same = a.config == b.config and p.fields(a) == q.fields(b)
        assert same == (p.workdir(a) == q.workdir(b)), (a, b)
    options = {}
    for p in plans:
        for run_name, task in p.recipe.tasks:
            key = (p.workdir(p.recipe.runs[run_name]), task)
            assert options.setdefault(key, p.options(task)) == p.options(task)


def test_an_option_may_be_the_folder_of_another_run(tmp_path):
    twin = Training("vae_digits", {"seed": 2})
    recipe = _RECIPE._replace(
        runs=_RECIPE.runs | {"twin": twin},
        others=["VAE: generate"],
        options={"generate": [{"beside": "{twin}"}]},
    )
    steps = Plan(recipe, tmp_path, small=False)
    assert steps.options("generate") == {"beside": str(steps.workdir(twin))}
    assert f"--option=beside={steps.workdir(twin)}" in steps.text()


def test_a_plan_says_how_long_it_takes(tmp_path, monkeypatch):
    known = listing.Listed("vae_digits", "", ("3 h", "an estimated 30 s"))
    monkeypatch.setattr(listing, "configs", lambda: [known])
    twice = 2 * listing.load("vae_digits").training.num_steps
    training = Training("vae_digits", {"training.num_steps": twice}, _TINY, 7, (5.0, 1.5))
    recipe = _RECIPE._replace(runs={"VAE": training, "twin": Training("vae_digits")})
    assert Plan(recipe, tmp_path, small=False).times(training) == (1800.0, 1.5)
    text = Plan(recipe, tmp_path, small=False).text()
    assert f"{twice:,} steps; about 30 h on one CPU core, about 2 min on a GPU" in text
    assert text.endswith("# all trainings: about 33 h on one CPU core, about 2 min on a GPU")
    text = Plan(recipe, tmp_path, small=True).text()
    assert "# VAE: 20 steps; about 7 min on one CPU core\n" in text


@pytest.mark.slow
def test_it_stops_goes_on_and_writes_the_row(tmp_path, capsys):
    long = {"training.num_steps": 20_000, "training.log_every": 100, "training.eval_every": 20_000}
    long |= {"training.checkpoint_every": 20_000}
    recipe = _RECIPE._replace(runs={"VAE": Training("vae_digits", {"seed": 1}, long, 1)})
    steps = Plan(recipe, tmp_path, small=True)
    assert not steps.carry_out(1e-9)
    checkpoints = steps.workdir(recipe.runs["VAE"]) / "checkpoints"
    assert not checkpoints.exists()
    for seconds in itertools.count(20, 10):  # until it is long enough for a step
        assert not steps.carry_out(seconds)
        saved = [int(path.name) for path in checkpoints.glob("[0-9]*")]
        if saved:
            break
    assert 0 < max(saved) < 20_000
    assert [command.is_done() for command in steps.commands()] == [False, False]
    assert steps.carry_out(0.0)
    assert [command.is_done() for command in steps.commands()] == [True, True]
    assert steps.text().count("# done: python -m") == 2
    plan.report("test", steps, tmp_path / "table.md")
    ((number, paper),) = recipe.paper.items()
    row = plan.measure(number, paper, steps)
    assert row["ours"] > 10.0 and row["steps"] == 20_000 and row["seed"] == 1
    lines = (tmp_path / "table.md").read_text().splitlines()
    named = r"| test | small | VAE: likelihood[samples=2\|3].nll | 1.5 |"
    assert len(lines) == 3 and lines[2].startswith(f"{named} {row['ours']:.4g} |")
    assert (tmp_path / "small" / "test.html").exists()


@pytest.mark.parametrize("executable", ["false", "true"])
def test_a_command_that_fails_or_leaves_nothing_ends_it(tmp_path, monkeypatch, executable):
    monkeypatch.setattr(sys, "executable", executable)
    with pytest.raises(UserError, match=r"experiments\.train .*it ended"):
        Plan(_RECIPE, tmp_path, True).carry_out(0.0)


def test_a_number_that_is_missing_is_told_and_the_others_are_written(tmp_path):
    paper = {f"VAE: likelihood[samples={samples}].nll": 1.5 for samples in (2, 3)}
    steps = Plan(_RECIPE._replace(paper=paper), tmp_path, small=True)
    workdir = steps.workdir(_RECIPE.runs["VAE"])
    config = {"seed": 1, "model": {"name": "vae.VAE"}, "training": {"num_steps": 20}}
    reporting.write_json(workdir / "config.json", config)
    (workdir / "metrics.jsonl").write_text('{"step": 20, "nll": 2.0, "steps_per_second": 1.0}\n')
    reporting.write_report(workdir, "likelihood", 20, {}, Report([{"samples": 2, "nll": 1.25}]))
    with pytest.raises(UserError, match="no row with samples=3"):
        plan.report("test", steps, tmp_path / "table.md")
    assert "| 1.5 | 1.25 | 20 |" in (tmp_path / "table.md").read_text()
    assert (tmp_path / "small/test.html").exists()


def test_other_rows_stay_and_other_files_are_refused(tmp_path):
    row = dict.fromkeys(plan._COLUMNS, 1) | {"what": "NLL", "ours": 0.01944}
    text = plan.merge("", "b", "small", [row])
    text = plan.merge(text, "a", "small", [row])
    text = plan.merge(text, "b", "paper", [row])
    names = [line.split(" | ")[:2] for line in text.splitlines()[2:]]
    assert names == [["| a", "small"], ["| b", "paper"], ["| b", "small"]]
    replaced = plan.merge(text, "b", "small", [row | {"ours": 7}, row | {"what": "KL"}])
    assert len(replaced.splitlines()) == 6 and "| 7 |" in replaced and "| 0.01944 |" in replaced
    path = tmp_path / "README.md"
    path.write_text(replaced)
    plan.check_table(path)
    path.write_text("# Title\n")
    with pytest.raises(UserError, match=r"README\.md is another file"):
        plan.check_table(path)


@pytest.mark.slow
def test_the_command_shows_plans_and_refuses(tmp_path):
    table = tmp_path / "results.md"
    table.write_text("mine")
    arguments = ["--name=vma_recall", f"--results={table}", f"--runs={tmp_path / 'runs'}"]
    assert_refused(run("reproduce", *arguments), "results.md is another file")
    shown = run("reproduce", *arguments, "--dry_run")
    assert shown.returncode == 0 and "--task=recall" in shown.stdout
    assert table.read_text() == "mine" and not (tmp_path / "runs").exists()


def test_a_checkpoint_that_was_cut_short_is_no_last_step(tmp_path):
    assert cli.last_step(tmp_path) == 0
    for name in ("10", "9", "20.orbax-checkpoint-tmp"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert cli.last_step(tmp_path) == 10
