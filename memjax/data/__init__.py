"""Data sets as arrays, and samplers of episodes: pure functions of an rng_key."""

from memjax.data.dataset import Dataset, from_arrays, is_binary
from memjax.data.episodes import Episode, EpisodeIndices, ImageArrays, binarize, gather
from memjax.data.loading import load
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
    "from_arrays",
    "gather",
    "is_binary",
    "load",
    "minibatch",
    "recall",
    "sample_without_replacement",
    "unstructured",
]
