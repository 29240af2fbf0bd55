"""Trains one config.

  python -m experiments.train --list
      shows every config: what it reproduces, and how long it takes.

  python -m experiments.train --config=experiments/configs/vma_digits_recall.py --workdir=runs/vma
      trains one. The same command again goes on where the run was stopped.

  ... --config.training.num_steps=1000 --config.optimizer.learning_rate=1e-3
      sets fields of it; a wrong name lists the right ones. Values may be Python's, "(64, 32)".

  ... --config.dataset.name=FOLDER
      trains on images of yours: a folder of them, an .npy or .npz file, or tfds:NAME.

  ... --init_from=runs/other
      begins with the parameters of another run, as far as they fit.

  ... --coordinator=HOST:PORT --num_processes=2 --process_id=0
      is the first of two processes of one run, each with its devices; the other has
      --process_id=1. On a TPU pod, run the command on every host without these flags.

The folder then holds report.html, figures/, metrics.jsonl, config.json, TensorBoard events and
checkpoints/. Next: python -m experiments.evaluate --workdir=runs/vma --task=recall.
"""

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from experiments import cli, early, listing

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "File of the config, such as experiments/configs/vma_mnist_recall.py."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
flags.DEFINE_flag(
    listing.ListFlag("every config", lambda: listing.format_configs(listing.configs()))
)
_INIT_FROM = flags.DEFINE_string(
    "init_from", "", "Folder of a run whose parameters are the start, as far as they fit."
)
_COORDINATOR = flags.DEFINE_string("coordinator", None, "host:port of the first process.")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Processes of the run.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.")
flags.mark_flag_as_required("config")


def main() -> None:
    """Trains, then draws the figures."""
    workdir, config = Path(_WORKDIR.value), _CONFIG.value
    if _INIT_FROM.value:
        config.init_from = _INIT_FROM.value
    early.check_config(config, workdir)
    # Imported after the flags are parsed, so that --help and a mistake are answered at once.
    from experiments import page, reporting
    from memjax.training import build, processes, train

    processes.join(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    with processes.ending_together():
        train(build(config), workdir)
        if processes.is_first():
            reporting.draw_run(workdir)
            print(page.write({workdir.absolute().name: workdir}, workdir / "report.html"))


if __name__ == "__main__":
    cli.run(main)
