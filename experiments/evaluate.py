"""Evaluates a trained run.

  python -m experiments.evaluate --list
      shows every task: what it measures, and its options.

  python -m experiments.evaluate --workdir=runs/vma --task=recall --option=num_slots=64
      evaluates the newest checkpoint. Repeat --option for several; a list is [64,256].

Prints a table, writes DIR/eval_TASK.json and figures, and adds both to DIR/report.html. Of a
pretrained model, --workdir=pretrained:NAME, it prints the table alone.
"""

from pathlib import Path

from absl import flags

from experiments import cli, early, listing
from memjax.errors import UserError

_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run, or pretrained:NAME.", required=True
)
_TASK = flags.DEFINE_string("task", None, "What to evaluate; see --list.", required=True)
_OPTION = flags.DEFINE_multi_string("option", [], "NAME=VALUE, an option of the task; repeatable.")
flags.DEFINE_flag(listing.ListFlag("every task", lambda: listing.format_tasks(listing.tasks())))
_DATA_DIR = flags.DEFINE_string("data_dir", "", "Where the data sets are, if they have moved.")


def main() -> None:
    """Loads the newest checkpoint, evaluates, reports."""
    workdir = Path(_WORKDIR.value)
    early.check_run(workdir, _TASK.value)
    from experiments import page, reporting
    from memjax import evaluation, files
    from memjax.evaluation import tasks

    is_pretrained = str(workdir).startswith(evaluation.pretrained.PREFIX)
    if not is_pretrained and not files.is_writable(workdir):
        raise UserError(f"workdir {workdir} can't be written: results have to go there")
    options = cli.parse_options(tasks.find(_TASK.value).evaluate, _OPTION.value)
    run = evaluation.load_run(workdir, _DATA_DIR.value)
    report = run.task(_TASK.value, **options)
    print(reporting.format_table(report.table))
    if is_pretrained:
        return
    reporting.write_report(workdir, _TASK.value, run.step, options, report)
    page.write({workdir.absolute().name: workdir}, workdir / "report.html")


if __name__ == "__main__":
    cli.run(main)
