"""Several runs on one picture.

  python -m experiments.compare --workdirs=runs/a,other=runs/b --output=runs/both

Prints the last held-out metrics of each run, and over seeds, and draws the learning curves
together; with --task=TASK, what `experiments.evaluate` found for each of them instead.
"""

from pathlib import Path

from absl import flags

from experiments import cli

_WORKDIRS = flags.DEFINE_list(
    "workdirs",
    None,
    "Folders of runs, A,B; each can be named: NAME=DIR.",
    required=True,
    allow_overwrite=False,
)
_OUTPUT = flags.DEFINE_string("output", None, "Folder for the pictures.", required=True)
_TASK = flags.DEFINE_string("task", "", "An evaluation that has been made of each run.")


def main() -> None:
    """Compares."""
    workdirs = cli.named_folders("workdirs", _WORKDIRS.value)
    from experiments import charts, reporting

    charts.compare(workdirs, Path(_OUTPUT.value), _TASK.value)
    for path in sorted(reporting.figure_folder(_OUTPUT.value).glob("*.png")):
        print(f"  {path}")


if __name__ == "__main__":
    cli.run(main)
