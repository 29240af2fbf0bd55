"""Evaluations have the rows and columns from which the papers' numbers are taken."""

import re

import pytest

from experiments.recipes import RECIPES

# Smaller numbers of what the recipes ask for, in the same columns.
_RUNS = {
    "classify": ("few_shot_run", {"ways": (2, 5), "shots": (1, 5), "num_queries": 5}),
    "impute": ("mem_vae_run", {"rect_size": 4, "num_rounds": 1, "num_queries": 10}),
    "likelihood": ("kanerva_run", {"num_samples": 1, "num_queries": 4}),
    "probe": ("mem_vae_run", {}),
    "recall": ("vma_run", {"num_slots": (16, 32), "num_memories": 1}),
    "table1": (
        "few_shot_run",
        {"num_classes": (1, 4), "num_shots": (1, 4, 19), "num_samples": 2, "num_queries": 4},
    ),
}


_PARTS = r"(.+): (\w+)(?:\[(.*?)\])?\.(.+)"  # run, task, conditions, column
_NUMBERS = [re.fullmatch(_PARTS, n).groups() for recipe in RECIPES.values() for n in recipe.paper]


@pytest.mark.slow
@pytest.mark.parametrize("name", _RUNS)
def test_the_papers_numbers_are_found(name, request):
    fixture, options = _RUNS[name]
    table = request.getfixturevalue(fixture).task(name, **options).table
    numbers = [(conditions, column) for _, task, conditions, column in _NUMBERS if task == name]
    assert numbers
    for conditions, column in numbers:
        fields = re.findall(r"(\w+)=", conditions or "")
        assert {*fields, column} <= table[0].keys()
    if name == "impute":
        assert {row["noise"] for row in table} >= {"RAND-0.6", "HALF"}


def test_every_number_is_of_a_task_that_is_tried():
    assert {task for _, task, *_ in _NUMBERS} == _RUNS.keys()
