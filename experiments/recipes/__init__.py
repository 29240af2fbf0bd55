"""The papers' tables and figures: which runs make each, and what the papers say.

Papers: VMA (Bornschein et al., 2017), KM (Wu et al., 2018), MEM-VAE (Li et al., 2016). Numbers are
in nats an image, but for accuracies and errors.
"""

from collections.abc import Mapping

from experiments.recipes import kanerva, mem_vae, vma
from experiments.recipes.recipe import Recipe

RECIPES: Mapping[str, Recipe] = {**kanerva.RECIPES, **vma.RECIPES, **mem_vae.RECIPES}
