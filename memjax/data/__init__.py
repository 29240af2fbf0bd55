"""Data sets as arrays, and samplers of episodes: pure functions of an rng_key."""

from memjax.data.episodes import (
    SAMPLERS,
    Episode,
    EpisodeIndices,
    ImageArrays,
    Sampler,
    binarize,
    few_classes,
    few_shot,
    gather,
    minibatch,
    recall,
    sample_without_replacement,
    unstructured,
)
from memjax.data.loading import Dataset, load

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
