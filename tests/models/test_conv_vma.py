"""The convolutional VMA against enumeration of addresses and quadrature of its latent."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.errors import UserError
from memjax.models import conv_vma
from memjax.models.conv_vma import ConvVMA
from tests import oracles
from tests.models.learning import assert_every_parameter_learns

_SHAPE = (5, 5, 1)
_SLOTS = 4


def tiny(**overrides):
    fields = {"latent_size": 1, "hidden_sizes": (4,), "num_filters": 3, "embedding_size": 3}
    return ConvVMA(_SHAPE, **fields | {"slot_size": 3} | overrides)


def images(seed, *axes):
    return np.random.default_rng(seed).integers(0, 2, (*axes, *_SHAPE)).astype(np.float32)


@functools.cache
def initialize(model):
    rng_key = jax.random.key(0)

    @jax.jit
    def init():
        params = model.init(rng_key, rng_key, images(0), images(1, _SLOTS), train=True)
        return jax.tree.map(lambda p: p + 0.2 * jax.random.normal(rng_key, p.shape), params)

    return init()


def exact_log_joint(model, params, query, support):
    """log p(x, a|M) = log p(a) + log integral p(z|m_a) p(x|z, m_a) dz; VMA eq. 1."""

    @jax.jit
    def parts():
        bound = model.bind(params)
        contents = bound.memory if model.num_slots else support
        nets = bound.nets
        slots = nets.vector_features(contents) if model.num_slots else nets.image_features(contents)
        prior = nets.prior(slots)
        grid = jnp.broadcast_to(oracles.LATENT_GRID[:, None, None], (801, len(contents), 1))
        logits = jax.vmap(lambda z: nets.decode(slots, z).base_dist.logits)(grid)
        return bound.slot_embedding(contents), prior.mean, prior.variance, logits

    embeddings, means, variances, logits = parts()
    scores = oracles.similarity(params["params"]["prior_query"], embeddings, "key_normalized")
    log_prior = np.log(oracles.softmax(scores))
    return log_prior + [
        oracles.log_likelihood_by_quadrature(mean, variance, logits[:, n], query)
        for n, (mean, variance) in enumerate(zip(means, variances, strict=True))
    ]


@pytest.mark.parametrize("num_slots", [0, pytest.param(3, marks=pytest.mark.slow)])
def test_weights_average_to_the_exact_joint_and_likelihood(num_slots):
    model = tiny(num_slots=num_slots)
    params, query, support = initialize(model), images(2), images(1, _SLOTS)
    exact = exact_log_joint(model, params, query, support)

    @jax.jit
    @jax.vmap
    def weigh(rng_key):
        inputs = (rng_key, query, support)
        log_weights = model.apply(params, *inputs, num_samples=1, method="log_weights")
        return log_weights, model.apply(params, *inputs, method="address_log_weights")

    log_weights = weigh(jax.random.split(jax.random.key(3), 10_000))
    for found, expected in zip(log_weights, (np.logaddexp.reduce(exact), exact), strict=True):
        ratios = np.exp(np.asarray(found, np.float64) - expected)
        error = ratios.std(axis=0) / np.sqrt(len(ratios))
        assert np.all(abs(ratios.mean(axis=0) - 1) < 5 * error)
        assert np.all(error < 0.1)  # the test can tell


def test_features_are_the_same_looked_up_before_or_after(monkeypatch):
    model = tiny()
    params, query, support = initialize(model), images(2), images(1, _SLOTS)

    def weigh():
        return jax.jit(model.apply, static_argnames="method")(
            params, jax.random.key(0), query, support, method="address_log_weights"
        )

    few = weigh()
    monkeypatch.setattr(conv_vma, "_FEW_SLOTS", 0)
    jax.clear_caches()
    np.testing.assert_allclose(few, weigh(), rtol=1e-4)


@pytest.mark.parametrize("fields", [{}, pytest.param({"num_slots": 3}, marks=pytest.mark.slow)])
def test_every_parameter_learns(fields):
    model = tiny(**fields)
    assert_every_parameter_learns(model, initialize(model), images(1, _SLOTS), images(2, 32))


def test_a_memory_of_one_slot_costs_no_address():
    model = tiny(tied_embeddings=True)
    rng_key, query, support = jax.random.key(0), images(2), images(1, 1)
    init = jax.eval_shape(lambda: model.init(rng_key, rng_key, query, support, train=True))
    assert "query_embedding" not in init["params"]
    params = initialize(tiny())
    bound = jax.jit(lambda: tiny().apply(params, rng_key, query, support, train=True))
    objective, metrics = bound()
    assert np.isfinite(objective) and metrics["kl_address"] == 0
    assert metrics["address_prior_entropy"] == 0


@pytest.mark.parametrize("num_slots", [0, pytest.param(3, marks=pytest.mark.slow)])
def test_generated_and_explained_images(num_slots):
    model = tiny(num_slots=num_slots)
    params, query, support = initialize(model), images(2), images(1, _SLOTS)

    @jax.jit
    def draw(rng_key):
        pictures = model.apply(params, rng_key, query, support, method="explain")
        return pictures | {"generated": model.apply(params, rng_key, support, method="generate")}

    pictures = draw(jax.random.key(0))
    assert ("read slot" in pictures) == (num_slots == 0)
    for image in pictures.values():
        assert image.shape == _SHAPE and np.all((image >= 0) & (image <= 1))


def test_bad_fields_and_empty_memories_are_refused():
    with pytest.raises(UserError, match="num_samples is 1; VIMCO needs at least 2"):
        initialize(tiny(num_samples=1))
    with pytest.raises(UserError, match="the memory is empty"):
        tiny().init(jax.random.key(0), jax.random.key(0), images(0), None, train=True)
    with pytest.raises(UserError, match="images are 4 x 4; the convolutions halve them 3 times"):
        initialize(dataclasses.replace(tiny(), image_shape=(4, 4, 1)))
