"""A trained run, and all that an evaluation asks of it."""

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import Any

import chex
import jax
import numpy as np

from memjax import data, models
from memjax.errors import UserError, check_at_least_one
from memjax.evaluation import tasks
from memjax.evaluation.report import Report
from memjax.nets import check_images
from memjax.training import Experiment

_CHUNK = 500  # images that are mapped at a time


@dataclasses.dataclass(frozen=True)
class Run:
    """A trained model with the experiment that it comes from.

    Attributes:
      experiment: model, data and samplers.
      variables: the model's variables as evaluation uses them: `TrainState.eval_variables`.
      step: how many were taken.
    """

    experiment: Experiment
    variables: dict[str, Any]
    step: int = 0

    @property
    def model(self) -> Any:
        """The model; tasks ask for a protocol before they use what is beyond the contract."""
        return self.experiment.model

    @property
    def num_images(self) -> int:
        """Held-out images."""
        return len(self.experiment.eval.arrays.images)

    def generate(
        self, rng_key: chex.PRNGKey, num_images: int, support: chex.Array | None = None
    ) -> np.ndarray:
        """Images `[num_images, H, W, C]` in [0, 1] of a memory.

        Args:
          rng_key: a JAX random key.
          num_images: how many.
          support: what the memory holds, `[N, H, W, C]` in [0, 1]; None: what an episode of the
            evaluation's brings.

        Raises:
          UserError: no images, or a support of another shape, or not in [0, 1].
        """
        check_at_least_one(num_images=num_images)
        episode_rng_key, write_rng_key, sample_rng_key = jax.random.split(rng_key, 3)
        if support is None:
            support = self.eval_episode(episode_rng_key).support
        else:
            support = self._checked("support", support)
        memory = self.write(write_rng_key, support)
        return np.asarray(self.sample("generate", sample_rng_key, num_images, memory))

    def reconstruct(
        self, rng_key: chex.PRNGKey, images: chex.Array, support: chex.Array | None = None
    ) -> np.ndarray:
        """Images `[B, H, W, C]` in [0, 1] as the model sees them with a memory.

        Args:
          rng_key: a JAX random key.
          images: `[B, H, W, C]` in [0, 1].
          support: what the memory holds, `[N, H, W, C]`; None: the images themselves.

        Raises:
          UserError: images or a support of another shape, or not in [0, 1].
        """
        images = self._checked("images", images)
        support = images if support is None else self._checked("support", support)
        write_rng_key, explain_rng_key = jax.random.split(rng_key)
        memory = self.write(write_rng_key, support)
        return np.asarray(self.map("explain", explain_rng_key, images, memory)["reconstruction"])

    def task(self, name: str, **options: Any) -> Report:
        """What the evaluation `name` finds; `memjax.evaluation.tasks` has them all.

        Raises:
          UserError: no such task, a model that lacks what it needs, or an option out of range.
        """
        task = tasks.find(name)
        if task.needs is not None:
            self.require(f"task {name}", task.needs)
        report = task.evaluate(self, **options)
        return dataclasses.replace(report, ink=self.experiment.eval.arrays.ink)

    def require(self, what: str, protocol: type) -> None:
        """Refuses a model that does not keep to a protocol of `memjax.models`.

        Raises:
          UserError: it says that `what` needs a model that does what the protocol says.
        """
        if not models.does(self.model, protocol):
            ability = (protocol.__doc__ or "").partition("\n")[0].rstrip(".")
            raise UserError(
                f"{what} needs a model that {ability[0].lower()}{ability[1:]}; "
                f"this is a {self.experiment.name}"
            )

    def write(self, rng_key: chex.PRNGKey, support: chex.Array | None) -> Any:
        """The memory of one support `[N, H, W, C]`."""
        return _write(self.model, self.variables, rng_key, support)

    def write_episodes(self, rng_key: chex.PRNGKey, episodes: chex.Array) -> Any:
        """The memories of episodes `[B, T, H, W, C]`, with leading axis B."""
        return _write(
            self.model, self.variables, jax.random.split(rng_key, len(episodes)), episodes
        )

    def map(
        self, method: str, rng_key: chex.PRNGKey, queries: Any, memory: Any, **options: Any
    ) -> Any:
        """`model.method(rng_key, query, memory, **options)` for each of the queries `[B, ...]`.

        Compiled once for the shapes and the options; the results have the leading axis B.
        """
        return self._ask(method, rng_key, (len(queries),), queries, memory, options)

    def map_episodes(
        self, method: str, rng_key: chex.PRNGKey, queries: Any, memories: Any, **options: Any
    ) -> Any:
        """As `map`, for queries `[B, T, ...]` and a memory of each of B episodes."""
        return self._ask(method, rng_key, queries.shape[:2], queries, memories, options)

    def sample(
        self, method: str, rng_key: chex.PRNGKey, count: int, memory: Any, **options: Any
    ) -> Any:
        """`model.method(rng_key, memory, **options)`, `count` times; see `map`."""
        return self._ask(method, rng_key, (count,), None, memory, options)

    def sample_episodes(
        self, method: str, rng_key: chex.PRNGKey, count: int, memories: Any, **options: Any
    ) -> Any:
        """As `sample`, `count` times for a memory of each of B episodes: `[B, count, ...]`."""
        shape = (len(jax.tree.leaves(memories)[0]), count)
        return self._ask(method, rng_key, shape, None, memories, options)

    def score_episodes(
        self, rng_key: chex.PRNGKey, episodes: chex.Array, memories: Any
    ) -> dict[str, chex.Array]:
        """The metrics `[B, T]` of episodes `[B, T, H, W, C]`, and those of their memories `[B]`."""
        _, metrics = self.map_episodes("__call__", rng_key, episodes, memories, train=False)
        if models.does(self.model, models.WritesEpisodes):
            length = episodes.shape[1]
            metrics |= _memory_metrics(self.model, length, self.variables, memories)
        return metrics

    def map_images(self, method: str, rng_key: chex.PRNGKey, images: chex.Array) -> Any:
        """`model.method(rng_key, image, memory)` for a data set's images, as NumPy arrays.

        Args:
          method: the method's name.
          rng_key: of the model's samples.
          images: uint8 `[D, H, W, C]`; the model sees their grey levels, not binarised.
        """
        memory, parts = self.write(rng_key, None), []
        for start in range(0, len(images), _CHUNK):
            queries = np.asarray(images[start : start + _CHUNK], np.float32) / 255
            parts.append(self.map(method, jax.random.fold_in(rng_key, start), queries, memory))
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)

    def fetch(self, indices: data.EpisodeIndices) -> data.Episode:
        """The held-out images of an episode."""
        stage = self.experiment.eval
        return stage.gather(stage.arrays, indices)

    def held_out(self, num_images: int, batch_size: int) -> Iterator[data.Episode]:
        """Held-out images in order, each once: queries `[B, ...]`, B at most `batch_size`."""
        for start in range(0, num_images, batch_size):
            indices = np.arange(start, min(start + batch_size, num_images))
            yield self.fetch(data.EpisodeIndices(indices))

    def eval_episode(self, rng_key: jax.Array) -> data.Episode:
        """An episode of the evaluation's sampler, of held-out data: queries `[B, ...]`."""
        stage = self.experiment.eval
        return self.fetch(_draw(stage.draw, rng_key, stage.arrays))

    def draw_episodes(
        self, rng_key: chex.PRNGKey, num_episodes: int, episode_length: int, num_classes: int = 0
    ) -> jax.Array:
        """Held-out images `[num_episodes, episode_length, H, W, C]` of a few classes; 0: of any.

        Raises:
          UserError: a number below 1, or more images or classes than the data have.
        """
        arrays = self.experiment.eval.arrays
        sizes = {"num_episodes": num_episodes, "episode_length": episode_length}
        if num_classes:
            indices = data.few_classes(rng_key, arrays, num_classes=num_classes, **sizes)
        else:
            indices = data.unstructured(rng_key, arrays, **sizes)
        return self.fetch(indices).query

    def _checked(self, name: str, images: chex.Array) -> np.ndarray:
        shape = self.experiment.eval.arrays.images.shape[1:]
        if np.ndim(images) != 4 or np.shape(images)[1:] != shape:
            wanted = f"[n, {', '.join(map(str, shape))}]"
            raise UserError(f"{name} is {list(np.shape(images))}; it must be {wanted}")
        check_images(images)
        return np.asarray(images, np.float32)

    def _ask(
        self,
        method: str,
        rng_key: chex.PRNGKey,
        shape: tuple[int, ...],
        queries: Any,
        memory: Any,
        options: dict[str, Any],
    ) -> Any:
        named = tuple(sorted(options.items()))
        rng_keys = jax.random.split(rng_key, shape)
        return _ask(self.model, method, named, self.variables, rng_keys, queries, memory)


@partial(jax.jit, static_argnums=0)
def _draw(sampler: data.Sampler, rng_key: chex.PRNGKey, arrays: data.ImageArrays) -> Any:
    return sampler(rng_key, arrays)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _ask(model, method, options, variables, rng_keys, queries, memory) -> Any:
    """Over one memory's keys `[B]`, or `[B, T]`: those of a memory each."""

    def one(rng_key: chex.PRNGKey, query: Any, memory: Any) -> Any:
        given = (memory,) if query is None else (query, memory)
        return model.apply(variables, rng_key, *given, method=method, **dict(options))

    one_memory = jax.vmap(one, in_axes=(0, 0, None))
    return (jax.vmap(one_memory) if rng_keys.ndim == 2 else one_memory)(rng_keys, queries, memory)


@partial(jax.jit, static_argnums=0)
def _write(model, variables, rng_keys, support) -> Any:
    """One memory, or that of each episode."""

    def one(rng_key: chex.PRNGKey, support: Any) -> Any:
        return model.apply(variables, rng_key, support, method="write")

    return (jax.vmap(one) if rng_keys.ndim == 1 else one)(rng_keys, support)


@partial(jax.jit, static_argnums=(0, 1))
def _memory_metrics(model, length, variables, memories) -> Any:
    return jax.vmap(lambda memory: model.apply(variables, memory, length, method="memory_metrics"))(
        memories
    )
