"""What the loop runs: a model, its optimizer, data and the episodes that are drawn from them."""

import dataclasses
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import chex
import flax.linen as nn
import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from memjax import data, models
from memjax.errors import UserError, check_at_least_one, check_one_of

BINARIZATIONS = ("none", "threshold", "static", "dynamic")
_COUNTS = ("num_steps", "log_every", "eval_every", "checkpoint_every")
_BINARIZATION_SEED = 20170926  # of the static binarisation: part of the data, not of a run's seed


@dataclasses.dataclass(frozen=True)
class Stage:
    """Training's or evaluation's data, and how episodes are drawn from them; see `create`.

    Attributes:
      arrays: the data set.
      draw: the sampler, `(rng_key, arrays) -> EpisodeIndices`.
      binarize_rng_key: of pixels that are drawn anew in each epoch; None: as the arrays have them.
    """

    arrays: data.ImageArrays
    draw: data.Sampler
    binarize_rng_key: chex.PRNGKey | None = None

    @classmethod
    def create(
        cls, dataset: data.Dataset, sampler: data.Sampler, binarization: str = "none"
    ) -> "Stage":
        """A data set with a sampler, such as `partial(data.recall, num_slots=64, batch_size=32)`.

        Args:
          dataset: see `data.from_arrays` and `data.load`.
          sampler: one of `memjax.data`, its sizes given, or the user's own.
          binarization: "none"; "threshold", 1 above half; "static", each pixel drawn once with its
            grey level as probability; "dynamic", anew in each epoch.

        Raises:
          UserError: another binarization, or sizes that do not fit the data.
        """
        check_one_of("dataset.binarization", binarization, BINARIZATIONS)
        # Of one implementation, whatever JAX's default is: a run may go on under another one.
        images, rng_key = dataset.images, jax.random.key(_BINARIZATION_SEED, impl="threefry2x32")
        if binarization == "static":
            images = np.asarray(jax.jit(data.binarize)(rng_key, images, np.arange(len(images))))
        elif binarization == "threshold":
            images = np.where(images > 127, 255, 0).astype(np.uint8)
        arrays = data.ImageArrays.create(images, dataset.labels, dataset.ink)
        stage = cls(arrays, sampler, rng_key if binarization == "dynamic" else None)
        _ = stage.indices  # finds out here, not within a compiled step, what does not fit
        return stage

    def gather(
        self, arrays: data.ImageArrays, indices: data.EpisodeIndices, epoch: chex.Numeric = 0
    ) -> data.Episode:
        """Fetches an episode's images from `arrays`: these ones, where the caller has them."""
        return data.gather(arrays, indices, self.binarize_rng_key, epoch)

    @cached_property
    def indices(self) -> data.EpisodeIndices:
        """The shapes of an episode's indices."""
        return jax.eval_shape(self.draw, jax.random.key(0), self.arrays)

    @property
    def batch_size(self) -> int:
        """Queries, or episodes, in a global batch: the axis that is split over devices."""
        return self.indices.query.shape[0]

    @property
    def is_iid(self) -> bool:
        """Whether it draws single images, and no memory."""
        return self.indices.query.ndim == 1 and self.indices.support is None

    @property
    def sizes(self) -> Mapping[str, Any]:
        """The sampler's arguments by name, if it is a `functools.partial`."""
        return getattr(self.draw, "keywords", {})

    @cached_property
    def is_binary(self) -> bool:
        """Whether a model sees black and white only."""
        return self.binarize_rng_key is not None or data.is_binary(np.asarray(self.arrays.images))


@dataclasses.dataclass(frozen=True)
class Experiment:
    """All that is to be trained, and how long.

    Attributes:
      model: a linen module that keeps to `memjax.models.Model`.
      optimizer: optax's.
      train: data and episodes of the steps.
      eval: held-out ones.
      num_steps: of training.
      log_every: steps between two lines of metrics.
      eval_every: steps between two evaluations, a multiple of `log_every`.
      checkpoint_every: steps between two checkpoints.
      skip_nonfinite: whether to go on without steps that give NaN, rather than stop at the first.
      ema_decay: of a running average of the parameters, which evaluation then uses; 0: none.
      num_eval_batches: episodes of an evaluation.
      seed: of parameters, episodes and samples.
      init_from: folder of a run whose parameters are the start; empty: none.
      config: what the experiment was built from; None: it was made in Python.

    Raises:
      UserError: a value that does not fit the others, the model or the data.
    """

    model: nn.Module
    optimizer: optax.GradientTransformation
    train: Stage
    eval: Stage
    num_steps: int = 20_000
    log_every: int = 500
    eval_every: int = 2_000
    checkpoint_every: int = 2_000
    skip_nonfinite: bool = False
    ema_decay: float = 0.0
    num_eval_batches: int = 8
    seed: int = 0
    init_from: str = ""
    config: ConfigDict | None = None

    def __post_init__(self):
        """Checks all that can be checked before training."""
        _check_model(self)
        _check_schedule(self)
        if not 0 <= self.seed < 2**32:
            raise UserError(f"seed is {self.seed}; it must be at least 0 and below 2**32")
        if not 0.0 <= self.ema_decay < 1.0:
            raise UserError(f"ema_decay is {self.ema_decay}; it must be at least 0 and below 1")

    @property
    def name(self) -> str:
        """The model's name in the config, or its class."""
        return self.config.model.name if self.config else type(self.model).__name__

    def describe(self) -> ConfigDict:
        """The config; or, of an experiment made in Python, the parts of one that can be told."""
        if self.config is not None:
            return self.config
        plain = (bool, int, float, str, tuple)
        fields = {
            f.name: getattr(self.model, f.name)
            for f in dataclasses.fields(self.model)
            if isinstance(getattr(self.model, f.name), plain) and f.name not in ("name", "parent")
        }
        cls = type(self.model)
        names = [*_COUNTS, "skip_nonfinite", "ema_decay"]
        return ConfigDict(
            {
                "seed": self.seed,
                "model": {"name": f"{cls.__module__}:{cls.__qualname__}", **fields},
                "training": {name: getattr(self, name) for name in names},
                "eval": {"num_batches": self.num_eval_batches},
                "init_from": self.init_from,
            }
        )


def _check_model(experiment: Experiment) -> None:
    model, stage = experiment.model, experiment.train
    missing = models.missing_methods(model)
    if missing or not isinstance(model, nn.Module):
        lacks = f"it lacks {', '.join(missing)}" if missing else "it is no linen module"
        raise UserError(f"model is a {type(model).__name__}; {lacks}: see memjax.models.Model")
    image_shape = stage.arrays.images.shape[1:]
    for name, other in (
        ("model.image_shape", getattr(model, "image_shape", image_shape)),
        ("the shape of the held-out images", experiment.eval.arrays.images.shape[1:]),
    ):
        if tuple(other) != image_shape:
            raise UserError(f"{name} is {tuple(other)}; the training images have {image_shape}")
    bernoulli = isinstance(model, models.HasLikelihood) and model.likelihood == "bernoulli"
    if bernoulli and not (stage.is_binary and experiment.eval.is_binary):
        raise UserError(
            "model.likelihood is 'bernoulli'; the data have grey levels: it must be 'gaussian', "
            "or dataset.binarization 'threshold', 'static' or 'dynamic'"
        )


def _check_schedule(experiment: Experiment) -> None:
    fields = {name: getattr(experiment, name) for name in _COUNTS}
    check_at_least_one(**fields, num_eval_batches=experiment.num_eval_batches)
    if experiment.eval_every % experiment.log_every:
        raise UserError(
            f"eval_every is {experiment.eval_every}; "
            f"it must be a multiple of log_every, {experiment.log_every}"
        )
