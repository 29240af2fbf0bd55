"""Every recipe is one that the commands accept, and a small one is carried out."""

import inspect
import itertools
import sys

import pytest

from experiments import listing, plan
from experiments.plan import Budgeted
from experiments.recipes import RECIPES, Evaluation, Number, Recipe, Training
from memjax import evaluation
from memjax.errors import UserError

_TINY = {"training.num_steps": 20, "training.log_every": 10, "training.eval_every": 10}
_TINY |= {"training.checkpoint_every": 10}
_EVALUATION = Evaluation("VAE", "likelihood", {"num_samples": 2}, {"num_queries": 100})
_RECIPE = Recipe(
    "a test",
    {"VAE": Training("vae_digits", {"seed": 1}, _TINY, 1)},
    [Number("NLL", _EVALUATION, "nll", 1.5, 1.25, {"samples": 2}, -1.0)],
)


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_fits_its_configs_and_tasks(tmp_path, name, small):
    recipe = Budgeted(RECIPES[name], tmp_path, small)
    for training in recipe.recipe.runs.values():
        config = listing.load(training.config).lock()
        config.update_from_flattened_dict(recipe.fields(training))
        steps = config.training
        assert recipe.num_steps(training) == steps.num_steps
        assert steps.num_steps % steps.checkpoint_every == 0
        assert steps.eval_every % steps.log_every == 0
        assert training.small_minutes > 0
    for number in recipe.recipe.numbers:
        assert number.evaluation in recipe.recipe.evaluations
    for e in recipe.recipe.evaluations:
        assert e.run in recipe.recipe.runs
        options = inspect.signature(evaluation.task(e.task)).parameters
        assert recipe.options(e).keys() <= options.keys() - {"run"}
    text = recipe.format_plan()
    assert all(str(command) in text for command in recipe.commands())


def test_a_folder_is_of_one_config(tmp_path):
    """Recipes share runs, so the same folder must be the same run."""
    trainings = [t for recipe in RECIPES.values() for t in recipe.runs.values()]
    for small in (False, True):
        budgeted = Budgeted(_RECIPE, tmp_path, small)
        for a, b in itertools.combinations(trainings, 2):
            same = a.config == b.config and budgeted.fields(a) == budgeted.fields(b)
            assert same == (budgeted.workdir(a) == budgeted.workdir(b)), (a, b)


@pytest.mark.slow
def test_it_stops_goes_on_and_writes_the_row(tmp_path, capsys):
    budgeted = Budgeted(_RECIPE, tmp_path, small=True)
    assert not budgeted.carry_out(1e-3)
    assert [command.is_done for command in budgeted.commands()] == [False, False]
    assert budgeted.carry_out(0.0)
    assert [command.is_done for command in budgeted.commands()] == [True, True]
    assert budgeted.format_plan().count("# done: python -m") == 2
    plan.report("test", budgeted, tmp_path / "table.md")
    row = plan.measure(_RECIPE.numbers[0], budgeted)
    assert row["ours"] < -10.0 and row["steps"] == 20 and row["seed"] == 1
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert len(lines) == 3 and lines[2].startswith("| test | small | NLL | 1.500 | 1.250 | -")
    assert str(round(row["ours"], 3)) in lines[2]


def test_a_command_that_fails_ends_it_and_a_wrong_name_lists_the_right_ones(tmp_path, monkeypatch):
    recipe = _RECIPE._replace(runs={"VAE": Training("vae_digits", {"seed": -1}, _TINY, 1)})
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(UserError, match=r"experiments\.train .*ended with status 1"):
        Budgeted(recipe, tmp_path, True).carry_out(0.0)


def test_rows_of_other_recipes_stay():
    row = {c: 1 for c in plan._COLUMNS} | {"what": "NLL"}
    text = plan.merge("", "b", "small", [row])
    text = plan.merge(text, "a", "small", [row])
    text = plan.merge(text, "b", "paper", [row])
    assert [line[:12] for line in text.splitlines()[2:]] == [
        "| a | small ",
        "| b | paper ",
        "| b | small ",
    ]
    replaced = plan.merge(text, "b", "small", [row | {"ours": 7}, row | {"what": "KL"}])
    assert len(replaced.splitlines()) == 6 and "| 7 |" in replaced
