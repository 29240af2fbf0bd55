"""What the gradient in z is worth: python -m benchmarks.latents.

Tiny models of scikit-learn's digits are trained by each `latent_gradient`, from the same seeds and
for as many steps. The first table has the bound on held-out digits. The second looks at the models
that "standard" trained: the signal-to-noise ratio of one image's gradient, in the parameters of
q(z|x), in those of p(z|m) where they learn, and in all others; and the time of a step.
"""

import functools
import time
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags

from experiments import cli
from experiments.reporting import format_table
from memjax import data, models

_STEPS = flags.DEFINE_integer("steps", 3_000, "Of each training.")
_SEEDS = flags.DEFINE_integer("seeds", 3, "Trainings of each kind.")
_MODELS = flags.DEFINE_multi_string("models", (), "Which, by name; all if none is given.")
_BATCH, _SLOTS, _DRAWS, _IMAGES = 64, 32, 400, 16
_SIZES: dict[str, Any] = {"latent_size": 16, "hidden_sizes": (64, 32)}
_SHAPE = (8, 8, 1)
MODELS: dict[str, nn.Module] = {
    "VAE, L = 1": models.VAE(_SHAPE, **_SIZES),
    "VAE, L = 8": models.VAE(_SHAPE, num_samples=8, **_SIZES),
    "MEM-VAE, L = 8": models.MemVAE(
        _SHAPE, num_samples=8, num_slots=(20, 10), batch_norm=False, **_SIZES
    ),
    "VMA, L = 4": models.VMA(_SHAPE, num_samples=4, embedding_size=16, **_SIZES),
}
POSTERIORS = ("image_encoder", "latent_posterior", "recognition")
PRIORS = ("latent_prior",)


def main() -> None:
    """Prints both tables."""
    train, test = (
        (data.load("digits", split).images >= 128).astype(np.float32) for split in ("train", "test")
    )
    bounds, ratios = [], []
    for name in _MODELS.value or MODELS:
        model = MODELS[name]
        row: dict[str, Any] = {"model": name}
        trained = None
        for kind in kinds(model):
            chosen = model.clone(latent_gradient=kind)
            params, seconds = fit(chosen, train)
            found = evaluate(chosen, params, train, test)
            row[kind] = f"{found.mean():.2f} ± {found.std() / np.sqrt(len(found)):.2f}"
            trained = params if trained is None else trained
            first = jax.tree.map(lambda leaf: leaf[0], trained)
            ratios.append({"model": name, "gradient": kind} | signals(chosen, first, train))
            ratios[-1]["ms a step"] = 1e3 * seconds
            print(f"{name}, {kind}: {row[kind]}, {ratios[-1]}", flush=True)
        bounds.append(
            {"model": name} | dict.fromkeys(("standard", "stl", "dreg", "gdreg"), "") | row
        )
    print(f"\nbound on held-out digits after {_STEPS.value} steps, nats an image\n")
    print(format_table(bounds))
    print("\nsignal to noise of one image's gradient, by part; the model that standard trained\n")
    print(format_table(ratios))


def kinds(model: nn.Module) -> Sequence[str]:
    """What differs for a model."""
    if getattr(model, "num_samples", 1) == 1:
        return ("standard", "stl")  # with one sample "dreg" is "stl"
    return ("standard", "stl", "dreg", *(("gdreg",) if isinstance(model, models.VMA) else ()))


def objective(model: nn.Module, params: Any, rng_key: Any, query: Any, support: Any) -> jax.Array:
    """The objective of one query."""
    variables = {"params": params}
    write_rng_key, read_rng_key = jax.random.split(rng_key)
    memory = model.apply(variables, write_rng_key, support, method="write")
    return model.apply(variables, read_rng_key, query, memory, train=False)[0]


def batch_objective(model: nn.Module, params: Any, rng_key: Any, images: Any) -> jax.Array:
    """The mean over queries, of which a VMA's memory holds half of the first few."""
    pick_rng_key, own_rng_key = jax.random.split(rng_key)
    chosen = images[jax.random.choice(pick_rng_key, len(images), (_BATCH + _SLOTS // 2,), False)]
    support = chosen[_SLOTS // 2 : _SLOTS // 2 + _SLOTS]
    rng_keys = jax.random.split(own_rng_key, _BATCH)
    each = jax.vmap(functools.partial(objective, model, params), (0, 0, None))
    return jnp.mean(each(rng_keys, chosen[:_BATCH], support))


def fit(model: nn.Module, images: np.ndarray) -> tuple[Any, float]:
    """The parameters of each seed; seconds a step."""
    optimizer = optax.adam(1e-3)

    @jax.jit
    @jax.vmap
    def start(rng_key):
        support = jnp.asarray(images[:_SLOTS])
        method = functools.partial(_one_query, query=support[0], support=support)
        return model.init(rng_key, rng_key, method=method)["params"]

    def step(carry, rng_key):
        params, state = carry
        gradient = jax.grad(lambda p: -batch_objective(model, p, rng_key, jnp.asarray(images)))
        updates, state = optimizer.update(gradient(params), state)
        return (optax.apply_updates(params, updates), state), None

    @jax.jit
    @jax.vmap
    def run(params, rng_key):
        rng_keys = jax.random.split(rng_key, _STEPS.value)
        return jax.lax.scan(step, (params, optimizer.init(params)), rng_keys)[0][0]

    rng_keys = jax.random.split(jax.random.key(0), _SEEDS.value)
    arguments = start(rng_keys), rng_keys
    compiled = run.lower(*arguments).compile()
    begun = time.perf_counter()
    params = jax.block_until_ready(compiled(*arguments))
    return params, (time.perf_counter() - begun) / _STEPS.value / _SEEDS.value


def _one_query(model: nn.Module, rng_key: Any, query: Any, support: Any) -> Any:
    return model(rng_key, query, model.write(rng_key, support), train=False)


def evaluate(model: nn.Module, params: Any, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """The mean bound of 64 samples, `[seeds]`; VMA's memory holds training digits."""
    support = jnp.asarray(train[:_SLOTS])

    @jax.jit
    @jax.vmap
    def run(params):
        def one(rng_key, query):
            variables = {"params": params}
            memory = model.apply(variables, rng_key, support, method="write")
            weights = model.apply(
                variables, rng_key, query, memory, num_samples=64, method="log_weights"
            )
            return jax.nn.logsumexp(weights) - jnp.log(64.0)

        rng_keys = jax.random.split(jax.random.key(1), len(test))
        return jnp.mean(jax.vmap(one)(rng_keys, jnp.asarray(test)))

    return np.asarray(run(params))


def signals(model: nn.Module, params: Any, images: np.ndarray) -> dict[str, float | str]:
    """The norm of the mean gradient over the root of its total variance, a mean over images."""
    support = jnp.asarray(images[:_SLOTS])

    @jax.jit
    def moments(query):
        def one(rng_key):
            return jax.grad(functools.partial(objective, model))(params, rng_key, query, support)

        gradients = jax.vmap(one)(jax.random.split(jax.random.key(2), _DRAWS))
        return jax.tree.map(
            lambda g: (jnp.sum(jnp.mean(g, 0) ** 2), jnp.sum(jnp.var(g, 0))), gradients
        )

    found: dict[str, list[float]] = {"q(z|x)": [], "p(z|m)": [], "others": []}
    for query in images[8 : 8 + _IMAGES]:
        parts = {part: np.zeros(2) for part in found}
        leaves = jax.tree_util.tree_flatten_with_path(
            moments(jnp.asarray(query)), is_leaf=lambda x: isinstance(x, tuple)
        )[0]
        for path, pair in leaves:
            name = jax.tree_util.keystr(path)
            is_posterior = any(word in name for word in POSTERIORS)
            is_prior = any(word in name for word in PRIORS)
            part = "q(z|x)" if is_posterior else "p(z|m)" if is_prior else "others"
            parts[part] += np.asarray(pair, np.float64)
        for part, (square, variance) in parts.items():
            if variance > 0:
                found[part].append(np.sqrt(max(square - variance / _DRAWS, 0.0) / variance))
    return {part: float(np.mean(ratios)) if ratios else "" for part, ratios in found.items()}


if __name__ == "__main__":
    cli.run(main)
