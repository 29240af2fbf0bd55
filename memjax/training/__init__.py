"""The state, the compiled loop, devices, checkpoints and metric writers."""

from memjax.training.experiment import Experiment, Stage, build
from memjax.training.loop import train_and_evaluate
from memjax.training.step import TrainState, init_state

__all__ = ["Experiment", "Stage", "TrainState", "build", "init_state", "train_and_evaluate"]
