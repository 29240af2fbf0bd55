"""Pure functions from log weights to objectives whose gradient is an estimator's."""

from memjax.estimators.multi_sample import iwae, vimco
from memjax.estimators.rivals import (
    exact,
    gumbel_softmax,
    nvil,
    reinforce,
    reweighted_wake_sleep,
)

__all__ = [
    "exact",
    "gumbel_softmax",
    "iwae",
    "nvil",
    "reinforce",
    "reweighted_wake_sleep",
    "vimco",
]
