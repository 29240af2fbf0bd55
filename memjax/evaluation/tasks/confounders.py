"""Robustness to the size of the memory at test time; VMA figure 5."""

import math
from collections.abc import Sequence

from memjax.evaluation.few_shot import check_few_shot, few_shot_nll, limits
from memjax.evaluation.options import as_sequence, up_to
from memjax.evaluation.report import Curves, Report
from memjax.evaluation.run import Run
from memjax.evaluation.tasks.likelihood import make_score

NEEDS = None


def evaluate(
    run: Run,
    *,
    num_classes: int | Sequence[int] = up_to(1, 2, 4, 8, 16, 32, 64, 144),
    num_shots: int | Sequence[int] = up_to(1, 4, 8, 16, 18),
    num_samples: int = 100,
    num_queries: int = 64,
    seed: int = 0,
) -> Report:
    """The NLL in nats with more classes in memory (A), and with more images of every class (B).

    A model that finds its slots without fail pays log C for C classes of disjoint data: the ideal
    line is the NLL with one class, or the fewest asked for, plus the logarithm.

    Args:
      run: the trained run of a model that reads a support of few-shot episodes.
      num_classes: the numbers of classes of A, with as many shots as the run was evaluated with.
      num_shots: the images of each class of B, whose memory holds all classes.
      num_samples: importance weights for each NLL.
      num_queries: images scored for each row.
      seed: of the episodes and the samples.

    Raises:
      UserError: a run of other episodes, or episodes that the data set can't fill.
    """
    check_few_shot(run, "confounders")
    shots = run.experiment.eval.sizes.get("num_support", 1)
    all_classes, most_shots = limits(run)
    score = make_score(run, num_samples)[0]

    def row(classes: int, shots: int) -> dict[str, float | int]:
        nll, error = few_shot_nll(run, score, classes, shots, num_queries, seed)
        return {"classes": classes, "shots": shots, "nll": nll, "standard_error": error}

    by_classes = [row(classes, shots) for classes in as_sequence(num_classes, all_classes)]
    by_shots = [row(all_classes, shots) for shots in as_sequence(num_shots, most_shots)]
    fewest = min(by_classes, key=lambda entry: entry["classes"])
    one = fewest["nll"] - math.log(fewest["classes"])
    for entry in by_classes + by_shots:
        entry["ideal"] = one + math.log(entry["classes"])
    x = [math.log(entry["classes"]) for entry in by_classes]
    lines = {name: (x, [entry[name] for entry in by_classes]) for name in ("nll", "ideal")}
    a = Curves("log of the classes in memory", "NLL, nats an image", lines)
    line = ([entry["shots"] for entry in by_shots], [entry["nll"] for entry in by_shots])
    b = Curves("images of each class in memory", "NLL, nats an image", {"nll": line})
    panels = {f"{shots} images of each class": a, f"{all_classes} classes": b}
    return Report(by_classes + by_shots, curves={"confounders": panels})
