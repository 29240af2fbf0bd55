"""The loss of a model on one batch, and a file with all that another program needs to repeat it."""

from functools import partial
from pathlib import Path

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from memjax import data, models, training
from memjax.models.episodic import EpisodicVAE
from memjax.training import objective as objective_lib

# As `steps.config` takes them: those with a model in `torch_steps`.
TWINS = [
    "vae_mnist",
    "vae_omniglot",
    "mem_vae_mnist",
    "vma_omniglot_fewshot:num_filters=16",
    "kanerva_omniglot",
    "dnc_omniglot",
]


def write(experiment: training.Experiment, path: Path) -> tuple[float, float]:
    """The loss and the norm of its gradient; parameters, images and noise go into the file.

    Parameters are the first, moved a little, so that none of their terms is zero.
    """
    model, stage, state = experiment.model, experiment.train, training.init_state(experiment)
    write_rng_key, query_rng_key, move_rng_key = jax.random.split(jax.random.key(0), 3)
    rng_keys = objective_lib.Keys(write_rng_key, jax.random.split(query_rng_key, stage.batch_size))
    episode = stage.gather(stage.arrays, stage.draw(write_rng_key, stage.arrays))
    noise = optax.tree_utils.tree_random_like(move_rng_key, state.params)
    params = jax.tree.map(lambda leaf, move: leaf + 0.01 * move, state.params, noise)

    def loss(params) -> chex.Array:
        variables = {"params": params, **state.model_state}
        return -objective_lib.objective(model, variables, rng_keys, episode, train=True)[0]

    # The objective takes means over devices, of which there is one.
    call = jax.vmap(
        jax.value_and_grad(loss),
        in_axes=None,
        out_axes=None,
        axis_size=1,
        axis_name=objective_lib.AXIS,
    )
    value, gradient = jax.jit(call)(params)
    inputs = {"query": episode.query[..., 0]} | _noise(model, rng_keys, episode)
    if episode.support is not None:
        inputs["support"] = episode.support[..., 0]
    tree = {"params": params, **state.model_state, "inputs": inputs}
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    arrays = {jax.tree_util.keystr(place, simple=True, separator="/"): x for place, x in leaves}
    arrays["model"] = type(model).__name__
    arrays["binarize"] = stage.binarize_rng_key is not None  # pixels are drawn anew in each step
    np.savez(path, **{name: np.asarray(array) for name, array in arrays.items()})
    return float(value), float(jnp.linalg.norm(ravel_pytree(gradient)[0]))


def _noise(model: nn.Module, rng_keys: objective_lib.Keys, episode: data.Episode) -> dict:
    """What the model draws from its keys: `_noise` Gaussian, `_uniform` from [0, 1)."""
    if isinstance(model, EpisodicVAE):
        return jax.vmap(partial(_episode_noise, model, episode.query.shape[1]))(rng_keys.queries)
    shape = (model.num_samples, model.latent_size)

    def draw(rng_key: chex.PRNGKey) -> dict[str, chex.Array]:
        if not isinstance(model, models.VMA):
            return {"latent_noise": jax.random.normal(rng_key, shape)}
        address_rng_key, latent_rng_key = jax.random.split(rng_key)
        return {
            "address_uniform": jax.random.uniform(address_rng_key, shape[:1]),
            "latent_noise": jax.random.normal(latent_rng_key, shape),
        }

    return jax.vmap(draw)(rng_keys.queries)


def _episode_noise(model: nn.Module, length: int, rng_key: chex.PRNGKey) -> dict[str, chex.Array]:
    """Of an episode of so many images."""
    normal = jax.random.normal
    _, write_rng_key, query_rng_key = jax.random.split(rng_key, 3)
    noise_rng_key, address_rng_key, codes_rng_key = jax.random.split(write_rng_key, 3)
    sizes = 2 * model.code_size, model.address_latent_size, model.code_size
    if isinstance(model, models.KanervaMachine):  # the other half is for a sample of the memory
        codes_rng_key = jax.random.split(codes_rng_key)[0]
    noise = {
        "write_noise": normal(noise_rng_key, (length, sizes[0])),
        "write_address_noise": normal(address_rng_key, (length, sizes[1])),
        "code_noise": normal(codes_rng_key, (length, sizes[2])),
    }

    def read(rng_key: chex.PRNGKey) -> dict[str, chex.Array]:
        rng_keys = jax.random.split(jax.random.split(rng_key, 3)[1], 3)
        names = "read_noise", "read_address_noise", "latent_noise"
        drawn = zip(names, rng_keys, sizes, strict=True)
        return {name: normal(rng_key, (size,)) for name, rng_key, size in drawn}

    return noise | jax.vmap(read)(jax.random.split(query_rng_key, length))
