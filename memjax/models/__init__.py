"""Generative models as Flax linen modules, each for one datum; batch them with `jax.vmap`.

A model file and its class are all that a new model needs: a config names them as "file.Class".
"""

import dataclasses
import importlib
import pkgutil
from collections.abc import Sequence
from typing import Any, Protocol

import chex
import flax.linen as nn

from memjax.errors import UserError


class Model(Protocol):
    """What the training loop and the evaluations ask of a model, besides being a linen module.

    `query` is one datum, an image `[H, W, C]` or an episode of them `[T, H, W, C]`; `support` is
    what the memory holds, `[N, H, W, C]`, or None. Images are float32 in [0, 1].
    """

    image_shape: Sequence[int]

    def __call__(
        self, rng_key: chex.PRNGKey, query: chex.Array, support: chex.Array | None, *, train: bool
    ) -> tuple[chex.Array, dict[str, chex.Array]]:
        """A scalar to maximise, and scalar metrics in nats: `nll`, `reconstruction`, `kl_...`."""
        ...

    def log_weights(
        self, rng_key: chex.PRNGKey, query: chex.Array, support: chex.Array | None, num_samples: int
    ) -> chex.Array:
        """Importance weights `[L]` in nats, whose log-mean-exp estimates log p(query).

        Of an episode `[T, H, W, C]`: `[T, L]`, for log p of each of its images.
        """
        ...

    def generate(self, rng_key: chex.PRNGKey, support: chex.Array | None) -> chex.Array:
        """A generated image `[H, W, C]`."""
        ...

    def explain(
        self, rng_key: chex.PRNGKey, query: chex.Array, support: chex.Array | None
    ) -> dict[str, chex.Array]:
        """Images `[H, W, C]`, by name, that show what the model made of one query."""
        ...


def build(name: str, image_shape: Sequence[int], **fields: Any) -> nn.Module:
    """The model `name`, "file.Class" of this package, with the fields of its config.

    Raises:
      UserError: no such model, or a field that it does not have.
    """
    file, _, class_name = name.partition(".")
    files = [module.name for module in pkgutil.iter_modules(__path__)]
    module = importlib.import_module(f"{__name__}.{file}") if file in files else None
    model_class = getattr(module, class_name or " ", None)
    if not (isinstance(model_class, type) and hasattr(model_class, "log_weights")):
        raise UserError(
            f"model.name is {name!r}; it must be 'file.Class' of memjax.models, "
            f"with a file among {', '.join(files)}"
        )
    _check_kinds(model_class, name, fields)
    # Linen wants hashable fields; a config read from JSON has lists.
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    try:
        return model_class(image_shape=tuple(image_shape), **fields)
    except TypeError as error:
        raise UserError(f"model {name}: {error}") from error


def _check_kinds(model_class: type[nn.Module], model: str, fields: dict[str, Any]) -> None:
    """Refuses words where numbers belong, and negative sizes; the rest is the model's to check."""
    kinds = {field.name: field.type for field in dataclasses.fields(model_class)}
    for name, value in fields.items():
        kind = kinds.get(name)
        if kind not in (int, Sequence[int]):
            continue
        sizes = [value] if kind is int else value
        whole = isinstance(sizes, list | tuple) and all(type(size) is int for size in sizes)
        if not whole or any(size < 0 for size in sizes):
            wanted = "an integer" if kind is int else "integers, such as (128, 64),"
            raise UserError(f"model {model}: {name} is {value!r}; it must be {wanted} at least 0")
