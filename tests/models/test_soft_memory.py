"""Soft attention and the matching network against the quadrature of their latent."""

import functools

import jax
import numpy as np
import pytest

from memjax.errors import UserError
from memjax.models.matching_network import MatchingNetwork
from memjax.models.soft_memory import SoftMemory
from tests import oracles
from tests.models.learning import assert_every_parameter_learns

_SHAPE = (5, 5, 1)
_MODELS = [SoftMemory, MatchingNetwork]


def tiny(model_class, **overrides):
    fields = {"latent_size": 1, "hidden_sizes": (4,), "num_filters": 3, "embedding_size": 3}
    return model_class(_SHAPE, **fields | overrides)


def images(seed, *axes):
    return np.random.default_rng(seed).integers(0, 2, (*axes, *_SHAPE)).astype(np.float32)


@functools.cache
def initialize(model):
    rng_key = jax.random.key(0)

    @jax.jit
    def init():
        params = model.init(rng_key, rng_key, images(0), images(1, 4), train=True)
        return jax.tree.map(lambda p: p + 0.2 * jax.random.normal(rng_key, p.shape), params)

    return init()


@pytest.mark.parametrize(
    "model_class", [SoftMemory, pytest.param(MatchingNetwork, marks=pytest.mark.slow)]
)
def test_importance_weights_average_to_the_exact_likelihood(model_class):
    model = tiny(model_class)
    params, query, support = initialize(model), images(2), images(1, 4)

    @jax.jit
    def parts():
        bound = model.bind(params)
        slots = bound._slots(support)
        prior, likelihood = bound._prior(slots), bound._decode(oracles.LATENT_GRID[:, None], slots)
        return prior.mean, prior.variance, likelihood.base_dist.logits

    exact = np.exp(oracles.log_likelihood_by_quadrature(*parts(), query))

    @jax.jit
    def weigh(rng_key):
        return model.apply(
            params, rng_key, query, support, num_samples=10_000, method="log_weights"
        )

    weights = np.exp(np.asarray(weigh(jax.random.key(3)), np.float64))
    error = weights.std() / np.sqrt(len(weights))
    assert abs(weights.mean() - exact) < 5 * error
    assert error < 0.1 * exact  # the test can tell


def test_what_is_read_is_the_slots_mixed_by_the_latents_similarities():
    model = tiny(SoftMemory)
    params, support = initialize(model), images(1, 4)
    latent = np.linspace(-2, 2, 5, dtype=np.float32)[:, None]

    @jax.jit
    def parts():
        bound = model.bind(params)
        mixture, _ = bound._read(latent, bound._slots(support))
        return mixture, bound.latent_embedding(latent), bound.slot_embedding(support)

    mixture, questions, embeddings = parts()
    scores = oracles.similarity(questions, embeddings, "key_normalized")
    for image, score in zip(mixture, scores, strict=True):
        expected = sum(w * m for w, m in zip(oracles.softmax(score), support, strict=True))
        np.testing.assert_allclose(image, expected, rtol=1e-4, atol=1e-5)


def test_the_order_of_the_support_does_not_matter():
    model = tiny(MatchingNetwork)
    params, query, support = initialize(model), images(2), images(1, 4)
    bound = jax.jit(lambda s: model.apply(params, jax.random.key(0), query, s, train=True)[0])
    np.testing.assert_allclose(bound(support), bound(support[::-1]), rtol=1e-4)


@pytest.mark.parametrize(
    "model_class", [SoftMemory, pytest.param(MatchingNetwork, marks=pytest.mark.slow)]
)
def test_every_parameter_learns(model_class):
    model = tiny(model_class)
    assert_every_parameter_learns(model, initialize(model), images(1, 4), images(2, 32))


@pytest.mark.parametrize("model_class", _MODELS)
def test_pictures_from_a_memory_of_one_slot(model_class):
    model = tiny(model_class)
    params, query, support = initialize(model), images(2), images(1, 1)

    @jax.jit
    def draw(rng_key):
        pictures = model.apply(params, rng_key, query, support, method="explain")
        return pictures | {"generated": model.apply(params, rng_key, support, method="generate")}

    pictures = draw(jax.random.key(0))
    np.testing.assert_allclose(pictures["read mixture"], support[0], rtol=1e-6)
    for image in pictures.values():
        assert image.shape == _SHAPE and np.all((image >= 0) & (image <= 1))


def test_bad_fields_and_empty_memories_are_refused():
    with pytest.raises(UserError, match="num_samples is 0; it must be at least 1"):
        initialize(tiny(SoftMemory, num_samples=0))
    with pytest.raises(UserError, match="similarity is 'dot'; it must be one of key_normalized"):
        initialize(tiny(SoftMemory, similarity="dot"))
    with pytest.raises(UserError, match="num_hops is -1; it must not be negative"):
        initialize(tiny(MatchingNetwork, num_hops=-1))
    with pytest.raises(UserError, match="the memory is empty"):
        tiny(SoftMemory).init(jax.random.key(0), jax.random.key(0), images(0), None, train=True)
