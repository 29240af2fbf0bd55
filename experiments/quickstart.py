"""Trains each kind of model on scikit-learn's digits and shows what they learned; a few minutes.

python -m experiments.quickstart --workdir=DIR. The same command again resumes.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

from absl import flags

from experiments import cli

_WORKDIR = flags.DEFINE_string("workdir", "runs/demo", "Folder for the runs.")
_CONFIGS = ("vae_digits", "mem_vae_digits", "vma_digits_recall", "kanerva_digits")


def main() -> None:
    """Trains, evaluates, draws."""
    from experiments import page, reporting

    start = time.perf_counter()
    workdir = Path(_WORKDIR.value)
    rows = [train(name, workdir / name) for name in _CONFIGS]
    reporting.write_json(workdir / "results.json", {"table": rows})
    print("\nOn held-out digits, in nats an image:\n")
    print(reporting.format_table(rows))
    print(
        "\nThe VMA's memory holds 64 of the held-out digits and is asked for one of them: no model "
        f"can do better than {rows[2]['floor']:.3f},\nthe NLL of a look-up table. The Kanerva "
        "Machine is asked for 32 that it has just written. NLLs of digits that are binarised\nin "
        "different ways can't be compared.\n"
        f"It took {time.perf_counter() - start:.0f} seconds. Pictures:"
    )
    for path in sorted(workdir.glob("*/figures/*.png")):
        print(f"  {path}")
    runs = {name: workdir / name for name in _CONFIGS}
    play = f"{os.path.relpath(sys.executable)} -m experiments.playground --workdir="
    print(f"Draw to the Kanerva Machine's memory: {play}{workdir / 'kanerva_digits'}")
    print(f"All of it on one page: {page.write(runs, workdir / 'report.html')}")


def train(name: str, workdir: Path) -> dict[str, Any]:
    """Trains the config `name`, draws its figures, and returns its row of the table."""
    from experiments import listing, page, reporting
    from memjax import evaluation, training
    from memjax.training import metrics

    config = listing.load(name)
    print(f"\n{name}: {config.training.num_steps} steps", flush=True)
    training.train(training.build(config), workdir)
    reporting.draw_run(workdir)
    run = evaluation.load_run(workdir)
    task, options = "likelihood", {"num_samples": 100}
    if config.episodes.name == "recall":
        task, options = "recall", {"num_slots": config.episodes.num_slots}
    report = run.task(task, **options)
    reporting.write_report(workdir, task, run.step, options, report)
    page.write({name: workdir}, workdir / "report.html")
    found = report.table[0]
    speeds = [entry["steps_per_second"] for entry in metrics.read(workdir)]
    columns = ("nll", "floor", "reconstruction", "kl_address", "kl_latent")
    row = {"config": name, "binarization": config.dataset.binarization}
    row |= {column: found.get(column, "") for column in columns}
    return row | {"steps_per_second": sorted(speeds)[len(speeds) // 2]}


if __name__ == "__main__":
    cli.run(main)
