"""Data sets as arrays, and samplers of episodes: pure functions of an rng_key."""

from memjax.data.episodes import Episode, EpisodeIndices, ImageArrays, binarize, gather
from memjax.data.loading import Dataset, load
from memjax.data.samplers import (
    SAMPLERS,
    Sampler,
    few_classes,
    few_shot,
    minibatch,
    recall,
    sample_without_replacement,
    unstructured,
)

__all__ = [
    "SAMPLERS",
    "Dataset",
    "Episode",
    "EpisodeIndices",
    "ImageArrays",
    "Sampler",
    "binarize",
    "few_classes",
    "few_shot",
    "gather",
    "load",
    "minibatch",
    "recall",
    "sample_without_replacement",
    "unstructured",
]
