"""Pure functions from log weights to objectives whose gradient is an estimator's."""

from memjax.estimators.multi_sample import iwae, vimco

__all__ = ["iwae", "vimco"]
