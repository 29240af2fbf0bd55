"""Wall time of a training step, hard attention beside soft: python -m benchmarks.attention.

The same nets on the same memories: `vma_omniglot_fewshot` with its 4 samples, and
`soft_memory_omniglot_fewshot` with its one. The paper's crossover is at 48 slots (VMA section 5).
"""

import time
from collections.abc import Callable

from absl import flags
from ml_collections import ConfigDict

from benchmarks import steps as steps_lib
from experiments import cli
from experiments.configs import soft_memory_omniglot_fewshot, vma_omniglot_fewshot
from experiments.reporting import format_table
from memjax import training

_SLOTS = flags.DEFINE_multi_integer(
    "num_slots", [4, 16, 64, 256, 1024, 4096], "Slots of the memory; repeatable."
)
_FILTERS = flags.DEFINE_integer("num_filters", 16, "Filters of every convolution.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Interleaved steps; the fastest counts.")


def main() -> None:
    """Measures both in turn for each size of the memory, and prints the table."""
    rows = []
    for num_slots in _SLOTS.value:
        steps = {
            "hard": take_step(vma_omniglot_fewshot.get_config(), num_slots),
            "soft": take_step(soft_memory_omniglot_fewshot.get_config(), num_slots),
        }
        seconds: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(_ROUNDS.value):
            for name, step in steps.items():
                start = time.perf_counter()
                step()
                seconds[name].append(time.perf_counter() - start)
        hard, soft = (1e3 * min(seconds[name]) for name in ("hard", "soft"))
        row = {"slots": num_slots, "hard, ms": hard, "soft, ms": soft, "hard / soft": hard / soft}
        rows.append(row)
    print(format_table(rows))


def take_step(config: ConfigDict, num_slots: int) -> Callable[[], None]:
    """A compiled training step on 32 queries, already warm."""
    config.episodes = ConfigDict({"name": "recall", "num_slots": num_slots, "batch_size": 32})
    config.eval.episodes = config.episodes
    config.model.num_filters = _FILTERS.value
    experiment = training.build(config, steps_lib.random_images(8_192, 26, 26))
    return steps_lib.compile_steps(experiment, 1)


if __name__ == "__main__":
    cli.run(main)
