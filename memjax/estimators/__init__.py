"""Pure functions from log weights to objectives whose gradient is an estimator's."""

from memjax.estimators.latents import dreg, gdreg
from memjax.estimators.multi_sample import iwae, ovis, vimco
from memjax.estimators.relaxed import gumbel_rao, gumbel_softmax, reinmax, relax
from memjax.estimators.rivals import exact, nvil, reinforce, reweighted_wake_sleep, rloo
from memjax.estimators.sets import (
    sample_top_and_rest,
    sample_without_replacement,
    sum_and_sample,
    unordered_set,
)

__all__ = [
    "dreg",
    "exact",
    "gdreg",
    "gumbel_rao",
    "gumbel_softmax",
    "iwae",
    "nvil",
    "ovis",
    "reinforce",
    "reinmax",
    "relax",
    "reweighted_wake_sleep",
    "rloo",
    "sample_top_and_rest",
    "sample_without_replacement",
    "sum_and_sample",
    "unordered_set",
    "vimco",
]
