"""Makes a table or a figure of the papers: trains, evaluates, writes the numbers down.

  python -m experiments.reproduce --list
      shows what there is.

  python -m experiments.reproduce --name=kanerva_omniglot --dry_run
      shows the commands, and how long the trainings take; starts nothing.

  python -m experiments.reproduce --name=kanerva_omniglot --budget=small
      does it within what a CPU reaches; without --budget, as the configs say: at the paper's own
      for MEM-VAE, at ours where the papers give none.

Stopped or killed, the same command goes on where it was. With --minutes=8 it stops by itself, with
exit status 3 while there is more to do: a training saves itself at its next look at the state, an
evaluation that has begun may end. At last the rows of --name in the file --results, a Markdown
table, are replaced by the new ones, and all runs stand on one page.
"""

import sys
from pathlib import Path

from absl import flags

from experiments import cli, listing
from experiments.recipes import RECIPES

_NAME = flags.DEFINE_enum("name", None, list(RECIPES), "What to make; see --list.", required=True)
_BUDGET = flags.DEFINE_enum("budget", "paper", ["paper", "small"], "The configs' own, or a CPU's.")
_RUNS = flags.DEFINE_string("runs", "runs", "Folder of the runs, which recipes share.")
_RESULTS = flags.DEFINE_string("results", "REPRODUCED.md", "The table that gets the rows.")
_MINUTES = flags.DEFINE_float(
    "minutes", 0.0, "When to stop with what is unfinished; 0: never.", lower_bound=0.0
)
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Shows the plan and starts nothing.")
flags.DEFINE_flag(listing.ListFlag("what can be made", lambda: format_recipes()))

UNFINISHED = 3  # exit status


def main() -> None:
    """Shows the plan, or carries it out."""
    from experiments import plan

    name, results = _NAME.value, Path(_RESULTS.value)
    steps = plan.Plan(RECIPES[name], Path(_RUNS.value), _BUDGET.value == "small")
    if _DRY_RUN.value:
        print(steps.text())
        return
    plan.check_table(results)
    if not steps.carry_out(60.0 * _MINUTES.value):
        print("not finished: the same command goes on")
        sys.exit(UNFINISHED)
    plan.report(name, steps, results)


def format_recipes() -> str:
    """A line for each recipe."""
    width = max(map(len, RECIPES))
    return "\n".join(f"{name:{width}} {recipe.source}" for name, recipe in RECIPES.items())


if __name__ == "__main__":
    cli.run(main)
