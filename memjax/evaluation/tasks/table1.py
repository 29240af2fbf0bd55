"""The NLL by classes in memory and by images of each class; VMA table 1, one system a run."""

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
    num_classes: int | Sequence[int] = up_to(1, 2, 4, 16),
    num_shots: int | Sequence[int] = up_to(1, 2, 3, 4, 5, 10, 19),
    num_samples: int = 1000,
    num_queries: int = 256,
    seed: int = 0,
) -> Report:
    """Mean NLL in nats of held-out images, a row for each number of classes; VMA table 1.

    Args:
      run: the trained run of a model that reads a support of few-shot episodes.
      num_classes: C_test.
      num_shots: the table's columns.
      num_samples: importance weights for each NLL; 1,000 in the paper.
      num_queries: images scored for each cell.
      seed: of the episodes and the samples.

    Raises:
      UserError: a run of other episodes, or episodes that the data set can't fill.
    """
    check_few_shot(run, "table1")
    score = make_score(run, num_samples)[0]
    most_classes, most_shots = limits(run)
    shots = as_sequence(num_shots, most_shots)
    table = []
    for classes in as_sequence(num_classes, most_classes):
        nll = [few_shot_nll(run, score, classes, n, num_queries, seed)[0] for n in shots]
        table.append({"classes": classes} | {f"{n}": v for n, v in zip(shots, nll, strict=True)})
    lines = {}
    for row in table:
        label = "1 class" if row["classes"] == 1 else f"{row['classes']} classes"
        lines[label] = (shots, [row[f"{n}"] for n in shots])
    panel = Curves("images of each class in memory", "NLL, nats an image", lines)
    return Report(table, curves={"table1": {run.experiment.name: panel}})
