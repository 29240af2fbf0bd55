"""The convolutional VMA against enumeration of addresses and quadrature of its latent."""

import dataclasses

import jax
import numpy as np
import pytest

from memjax.errors import UserError
from memjax.models import conv_vma
from memjax.models.conv_vma import ConvVMA
from tests import oracles

_SHAPE = (5, 5, 1)
_SLOTS = 4


def tiny(**overrides):
    fields = {"latent_size": 1, "hidden_sizes": (4,), "num_filters": 3, "embedding_size": 3}
    return ConvVMA(_SHAPE, **fields | {"slot_size": 3} | overrides)


def images(seed, *axes):
    return np.random.default_rng(seed).integers(0, 2, (*axes, *_SHAPE)).astype(np.float32)


def initialize(model):
    rng_key = jax.random.key(0)

    @jax.jit
    def init():
        params = model.init(rng_key, rng_key, images(0), images(1, _SLOTS), train=True)
        return jax.tree.map(lambda p: p + 0.2 * jax.random.normal(rng_key, p.shape), params)

    return init()


def exact_log_joint(model, params, query, support):
    """log p(x, a|M) = log p(a) + log integral p(z|m_a) p(x|z, m_a) dz; VMA eq. 1."""
    bound = model.bind(params)
    contents = bound.memory if model.num_slots else support
    scores = oracles.similarity(bound.prior_query, bound.slot_embedding(contents), "key_normalized")
    slots = bound.nets.vector_features if model.num_slots else bound.nets.image_features
    log_joint = np.log(oracles.softmax(scores))
    for n, content in enumerate(contents):
        features = slots(content)
        prior = bound.nets.prior(features)
        log_joint[n] += oracles.log_likelihood_by_quadrature(
            prior, lambda grid, f=features: jax.vmap(lambda z: bound.nets.decode(f, z))(grid), query
        )
    return log_joint


@pytest.mark.parametrize("num_slots", [0, 3])
def test_weights_average_to_the_exact_joint_and_likelihood(num_slots):
    model = tiny(num_slots=num_slots)
    params, query, support = initialize(model), images(2), images(1, _SLOTS)
    exact = exact_log_joint(model, params, query, support)

    @jax.jit
    def weigh(rng_key):
        return model.apply(
            params, rng_key, query, support, num_samples=20_000, method="log_weights"
        )

    weights = np.exp(np.asarray(weigh(jax.random.key(3)), np.float64))
    error = weights.std() / np.sqrt(len(weights))
    assert abs(weights.mean() - np.exp(exact).sum()) < 5 * error
    assert error < 0.1 * np.exp(exact).sum()  # the test can tell

    @jax.jit
    @jax.vmap
    def weigh_addresses(rng_key):
        return model.apply(params, rng_key, query, support, method="address_log_weights")

    rng_keys = jax.random.split(jax.random.key(4), 5_000)
    weights = np.exp(np.asarray(weigh_addresses(rng_keys), np.float64))
    error = weights.std(axis=0) / np.sqrt(len(weights))
    assert np.all(abs(weights.mean(axis=0) - np.exp(exact)) < 5 * error)
    assert np.all(error < 0.1 * np.exp(exact))


def test_features_are_the_same_looked_up_before_or_after(monkeypatch):
    model = tiny()
    params, query, support = initialize(model), images(2), images(1, _SLOTS)

    def objective(params):
        return model.apply(params, jax.random.key(0), query, support, train=True)[0]

    few = jax.value_and_grad(objective)(params)
    monkeypatch.setattr(conv_vma, "_FEW_SLOTS", 0)
    many = jax.value_and_grad(objective)(params)
    for a, b in zip(jax.tree.leaves(few), jax.tree.leaves(many), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("fields", [{}, {"tied_embeddings": True}, {"num_slots": 3}])
def test_every_parameter_learns(fields):
    model = tiny(**fields)
    params, support, queries = initialize(model), images(1, _SLOTS), images(2, 32)

    @jax.jit
    def gradient(params):
        def objective(params):
            rng_keys = jax.random.split(jax.random.key(0), len(queries))
            bound = jax.vmap(lambda k, x: model.apply(params, k, x, support, train=True)[0])
            return bound(rng_keys, queries).mean()

        return jax.grad(objective)(params)

    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient(params)):
        assert np.all(np.isfinite(leaf)) and np.any(leaf != 0), jax.tree_util.keystr(path)


def test_a_memory_of_one_slot_costs_no_address():
    model = tiny()
    params, query, support = initialize(model), images(2), images(1, 1)
    objective, metrics = model.apply(params, jax.random.key(0), query, support, train=True)
    assert np.isfinite(objective) and metrics["kl_address"] == 0
    assert metrics["address_prior_entropy"] == 0


@pytest.mark.parametrize("num_slots", [0, 3])
def test_generated_and_explained_images(num_slots):
    model = tiny(num_slots=num_slots)
    params, query, support = initialize(model), images(2), images(1, _SLOTS)
    pictures = model.apply(params, jax.random.key(0), query, support, method="explain")
    assert ("read slot" in pictures) == (num_slots == 0)
    generated = model.apply(params, jax.random.key(0), support, method="generate")
    for image in [generated, *pictures.values()]:
        assert image.shape == _SHAPE and np.all((image >= 0) & (image <= 1))


def test_bad_fields_and_empty_memories_are_refused():
    with pytest.raises(UserError, match="num_samples is 1; VIMCO needs at least 2"):
        initialize(tiny(num_samples=1))
    with pytest.raises(UserError, match="the memory is empty"):
        tiny().init(jax.random.key(0), jax.random.key(0), images(0), None, train=True)
    with pytest.raises(UserError, match="images are 4 x 4; the convolutions halve them 3 times"):
        initialize(dataclasses.replace(tiny(), image_shape=(4, 4, 1)))
