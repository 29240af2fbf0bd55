"""Evaluations of a trained run."""

from memjax.extras import needs

with needs("train"):
    from memjax.evaluation import pretrained, tasks
    from memjax.evaluation.loading import load_run
    from memjax.evaluation.report import Curves, Report
    from memjax.evaluation.run import Run

__all__ = ["Curves", "Report", "Run", "load_run", "pretrained", "tasks"]
