"""VMA on few-shot episodes of scikit-learn's digits: 4 images of each of 8 classes in memory.

The digits held out for the test are of the same ten classes.

Time: 1 min on one CPU core; an estimated 10 s on a GPU.
"""

from experiments.configs import default, vma_digits_recall


def get_config():
    config = vma_digits_recall.get_config()
    default.set_episodes(config, name="few_shot", num_classes=8, num_support=4, num_queries=4)
    config.eval.episodes.num_queries = 8
    config.training.num_steps = 6_000
    return config
