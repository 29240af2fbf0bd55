"""Trains one config.

  python -m experiments.train --list
      shows every config: what it reproduces, and how long it takes.

  python -m experiments.train --config=experiments/configs/vma_digits_recall.py --workdir=runs/vma
      trains one. The same command again goes on where the run was stopped.

  ... --config.training.num_steps=1000 --config.optimizer.learning_rate=1e-3
      sets fields of it; a wrong name lists the right ones. Values may be Python's, "(64, 32)".

The folder then holds report.html, figures/, metrics.jsonl, config.json, TensorBoard events and
checkpoints/. Next: python -m experiments.evaluate --workdir=runs/vma --task=recall.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from experiments import cli, listing

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "File of the config, such as experiments/configs/vma_mnist_recall.py.",
    lock_config=True,
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
flags.DEFINE_flag(
    listing.ListFlag(
        "list",
        "Shows every config and ends.",
        lambda: listing.format_configs(listing.configs()),
    )
)
flags.mark_flag_as_required("config")


def main(argv: Sequence[str]) -> None:
    """Trains, then draws the figures."""
    del argv
    # Imported after the flags are parsed, so that --help and a wrong flag answer at once.
    from experiments import page, reporting
    from memjax.training import train_and_evaluate

    workdir = Path(_WORKDIR.value)
    train_and_evaluate(_CONFIG.value, workdir)
    reporting.draw_run(workdir)
    print(page.write({workdir.absolute().name: workdir}, workdir / "report.html"))


if __name__ == "__main__":
    cli.run(main)
