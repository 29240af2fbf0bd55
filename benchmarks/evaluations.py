"""Images a second of evaluations beside training: python -m benchmarks.evaluations.

Of random images and a model's first parameters. An evaluation is run twice, and the second time
counts, as the first one compiles. On a CPU the time is the processor's, so that other work beside
it does not count.
"""

import math
from typing import Any

from absl import flags

from benchmarks import steps
from experiments import cli, listing
from memjax import evaluation, models, training
from memjax.evaluation import tasks

_CONFIGS = ["vae_mnist", "vma_mnist_recall", "vma_digits_fewshot", "kanerva_digits"]
_NAMES = flags.DEFINE_multi_string("name", _CONFIGS, "A config; repeatable.")
_SECONDS = flags.DEFINE_float("seconds", 2.0, "How long to train, at least.")


def main() -> None:
    """Prints a line for each config and what it can do."""
    print(f"{'config':24} {'what':24} images a second")
    for name in _NAMES.value:
        experiment = training.build(listing.load(name).lock(), steps.random_set)
        variables = training.init_state(experiment).eval_variables
        run = evaluation.Run(experiment, variables)
        num_images = math.prod(experiment.train.indices.query.shape)
        seconds = steps.seconds_per_step(experiment, _SECONDS.value)
        print_speed(name, "training", num_images, seconds)
        for task, options in {
            "classify": {"ways": 5, "shots": 1, "num_queries": 200},
            "capacity": {"episode_length": 32, "num_classes": 0, "num_episodes": 8},
            "likelihood": {"num_samples": 1000, "num_queries": max(1, 200 // _images(run))},
        }.items():
            needs = tasks.find(task).needs
            if needs is None or models.does(run.model, needs):
                print_speed(name, task, *evaluate(run, task, options))


def print_speed(name: str, what: str, num_images: int, seconds: float) -> None:
    """A line."""
    print(f"{name:24} {what:24} {num_images / seconds:15.1f}", flush=True)


def evaluate(run: evaluation.Run, task: str, options: dict[str, Any]) -> tuple[int, float]:
    """Images scored, and how long they took."""
    clock = steps.clock()
    for _ in range(2):
        start = clock()
        table = run.task(task, **options).table
        seconds = clock() - start
    if task == "capacity":
        return sum(row["episode_length"] * options["num_episodes"] for row in table), seconds
    images_each = _images(run) if task == "likelihood" else 1
    return images_each * sum(row["queries"] for row in table), seconds


def _images(run: evaluation.Run) -> int:
    """How many images one query of likelihood has: those of an episode, where it takes these."""
    return math.prod(run.experiment.eval.indices.query.shape[1:])


if __name__ == "__main__":
    cli.run(main)
