"""Makes a pretrained model of a run: python -m experiments.pretrained --workdir=DIR --name=NAME.

  python -m experiments.pretrained --workdir=runs/recall --name=vma_mnist_recall --task=recall
      evaluates what the file memjax/pretrained/NAME.npz will give, and writes it with the numbers.
      Options of the task: --option=NAME=VALUE, as in experiments.evaluate.

Without --workdir it lists the pretrained models.
"""

from pathlib import Path

from absl import flags

from experiments import cli, early
from memjax.errors import UserError

_WORKDIR = flags.DEFINE_string("workdir", "", "Folder of the run.")
_NAME = flags.DEFINE_string("name", "", "Of the pretrained model.")
_TASK = flags.DEFINE_string("task", "likelihood", "The evaluation whose numbers are kept.")
_OPTION = flags.DEFINE_multi_string("option", [], "NAME=VALUE, an option of the task; repeatable.")
_DATA_DIR = flags.DEFINE_string("data_dir", "", "Where the data sets are, if they have moved.")


def main() -> None:
    """Evaluates and writes; or lists."""
    if _WORKDIR.value:
        early.check_run(Path(_WORKDIR.value), _TASK.value)
        if not _NAME.value.isidentifier():
            raise UserError(f"name is {_NAME.value!r}; it must be letters, digits and underscores")
    from experiments.reporting import format_table
    from memjax import evaluation
    from memjax.evaluation import pretrained, tasks
    from memjax.training.workdir import load_config

    if not _WORKDIR.value:
        for name in pretrained.names():
            found = pretrained.read(name)
            for task, evaluated in found.evaluations.items():
                print(f"\npretrained:{name}, {task}, {evaluated['options']}, step {found.step}")
                print(format_table(evaluated["table"]))
        return
    options = cli.parse_options(tasks.find(_TASK.value).evaluate, _OPTION.value)
    config = load_config(_WORKDIR.value).to_dict()
    run = evaluation.load_run(_WORKDIR.value, _DATA_DIR.value)
    given = evaluation.Run(run.experiment, pretrained.rounded(run.variables), run.step)
    table = given.task(_TASK.value, **options).table
    evaluations = {_TASK.value: {"options": options, "table": table}}
    path = pretrained.write(_NAME.value, config, run.step, run.variables, evaluations)
    print(format_table(table))
    print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    cli.run(main)
