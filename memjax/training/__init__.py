"""Experiments, the compiled loop, devices, checkpoints and metric writers."""

from memjax.extras import needs

with needs("train"):
    from memjax.training.build import build, build_model
    from memjax.training.experiment import Experiment, Stage
    from memjax.training.loop import train
    from memjax.training.step import TrainState, init_state

__all__ = [
    "Experiment",
    "Stage",
    "TrainState",
    "build",
    "build_model",
    "init_state",
    "train",
]
