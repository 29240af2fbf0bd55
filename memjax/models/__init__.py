"""Generative models as Flax linen modules, each for one datum; batch them with `jax.vmap`.

A memory is written from a support, then asked about queries, one image at a time. `Model` is the
whole contract; what a model can do beyond it, it does by the other protocols, which the tasks that
need it ask for.
"""

from memjax.models.contract import (
    AddressesSlots,
    AddressesSupport,
    Encodes,
    HasFeatures,
    HasLayerSlots,
    HasLikelihood,
    Images,
    Model,
    NormalizesBatch,
    ReadsByWeights,
    WritesEpisodes,
    does,
    missing_methods,
)
from memjax.models.dnc_machine import DNCMachine, LRUAMachine
from memjax.models.kanerva_machine import KanervaMachine
from memjax.models.matching_network import MatchingNetwork
from memjax.models.mem_vae import MemVAE
from memjax.models.soft_memory import SoftMemory
from memjax.models.vae import VAE
from memjax.models.vma import VMA

__all__ = [
    "VAE",
    "VMA",
    "AddressesSlots",
    "AddressesSupport",
    "DNCMachine",
    "Encodes",
    "HasFeatures",
    "HasLayerSlots",
    "HasLikelihood",
    "Images",
    "KanervaMachine",
    "LRUAMachine",
    "MatchingNetwork",
    "MemVAE",
    "Model",
    "NormalizesBatch",
    "ReadsByWeights",
    "SoftMemory",
    "WritesEpisodes",
    "does",
    "missing_methods",
]
