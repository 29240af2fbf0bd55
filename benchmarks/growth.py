"""A training step's time as one thing grows: python -m benchmarks.growth [--thing=slots ...].

Each line has the milliseconds a step at each size, of random images, and the slope of the time's
logarithm over the size's, by least squares and between the two largest: 1 where the time grows as
the size, 0 where it stays.
On a CPU the time is the processor's, so that other work beside it does not count.
"""

from typing import NamedTuple

import numpy as np
from absl import flags

from benchmarks import steps
from experiments import cli, listing
from memjax import training


class Growth(NamedTuple):
    """What grows: a field of a config, or with `field` empty the images' height and width."""

    config: str
    field: str
    sizes: tuple[int, ...]
    fixed: dict[str, int]  # other fields


GROWTHS = {
    "slots": [Growth("vma_mnist_recall", "episodes.num_slots", (256, 512, 1024, 2048), {})],
    "episode": [
        Growth(
            "kanerva_digits",
            "episodes.episode_length",
            (16, 32, 64, 128),
            {"episodes.num_episodes": 4},
        )
    ],
    "batch": [
        Growth("vae_mnist", "episodes.batch_size", (32, 128, 512, 2048), {}),
        Growth("mem_vae_mnist", "episodes.batch_size", (25, 100, 400), {}),
    ],
    "image": [Growth("vae_omniglot", "", (14, 28, 56, 112), {"episodes.batch_size": 32})],
}

_THINGS = flags.DEFINE_multi_enum("thing", list(GROWTHS), list(GROWTHS), "What grows; repeatable.")
_SECONDS = flags.DEFINE_float("seconds", 1.0, "How long to measure each, at least.")


def main() -> None:
    """Prints a line for each config and what grows in it."""
    for thing in _THINGS.value:
        for growth in GROWTHS[thing]:
            times = [1e3 * seconds_at(growth, size) for size in growth.sizes]
            # An image's size is its pixels.
            sizes = np.square(growth.sizes) if thing == "image" else growth.sizes
            logs = np.log([sizes, times])
            slope, last = (np.polyfit(*points, 1)[0] for points in (logs, logs[:, -2:]))
            pairs = zip(growth.sizes, times, strict=True)
            told = "  ".join(f"{size}: {ms:.2f}" for size, ms in pairs)
            slopes = f"slope {slope:5.2f}, last {last:5.2f}"
            print(f"{thing:8} {growth.config:20} {slopes}  ms at {told}", flush=True)


def seconds_at(growth: Growth, size: int) -> float:
    """Of a step."""
    grown = {growth.field: size} if growth.field else {}
    load = steps.random_set if growth.field else steps.random_images(2_400, size, size)
    config = listing.load(growth.config)
    config.update_from_flattened_dict(growth.fixed | grown)
    return steps.seconds_per_step(training.build(config.lock(), load), _SECONDS.value)


if __name__ == "__main__":
    cli.run(main)
