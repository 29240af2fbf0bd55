"""Soft attention and the matching network against the quadrature of their latent."""

import jax
import numpy as np
import pytest
import scipy.special
import scipy.stats

from memjax.models import MatchingNetwork, SoftMemory
from tests import oracles
from tests.models.common import (
    assert_every_parameter_learns,
    assert_mean_is,
    assert_refused,
    initialize,
    inputs,
)

_SHAPE = (5, 5, 1)


def tiny(model_class, **overrides):
    fields = {"latent_size": 1, "hidden_sizes": (4,), "num_filters": 3, "embedding_size": 3}
    return model_class(_SHAPE, **fields | overrides)


@pytest.mark.parametrize(
    ("model_class", "likelihood"),
    [
        (SoftMemory, "gaussian"),
        pytest.param(SoftMemory, "bernoulli", marks=pytest.mark.slow),
        pytest.param(MatchingNetwork, "bernoulli", marks=pytest.mark.slow),
    ],
)
def test_weights_average_to_the_exact_likelihood(model_class, likelihood):
    model = tiny(model_class, likelihood=likelihood, num_samples=4_000)
    variables, (query, support) = initialize(model), inputs(model)

    @jax.jit
    def run(rng_key):
        bound = model.bind(variables)
        slots = bound.write(rng_key, support)
        prior, grid = bound._prior(slots), oracles.LATENT_GRID[::2, None]
        mixture, context = bound._read(grid, slots)
        outputs = bound.nets.decode(bound.nets.image_features(mixture), grid, *context)
        log_weights = bound.log_weights(rng_key, query, slots, 4_000)
        objective, _ = bound(rng_key, query, slots, train=False)
        return objective, log_weights, prior.mean, prior.variance, outputs

    found = (np.asarray(x, np.float64) for x in run(jax.random.key(3)))
    objective, log_weights, mean, variance, outputs = found
    np.testing.assert_allclose(objective, oracles.log_mean_exp(log_weights), rtol=1e-5)
    if likelihood == "gaussian":
        scale = np.exp(float(variables["params"]["pixels"]["log_scales"][0]))
        log_pixels = scipy.stats.norm.logpdf(query, outputs, scale)
    else:
        log_pixels = scipy.special.log_expit(np.where(query == 1, outputs, -outputs))
    grid = oracles.LATENT_GRID[::2].astype(np.float64)
    log_density = scipy.stats.norm.logpdf(grid, mean, np.sqrt(variance))
    exact = np.logaddexp.reduce(log_density + log_pixels.sum(axis=(1, 2, 3)))
    assert_mean_is(np.exp(log_weights - exact - np.log(grid[1] - grid[0])), 1.0)


def test_what_is_read_is_the_slots_mixed_by_the_latents_similarities():
    model = tiny(SoftMemory)
    variables, (_, support) = initialize(model), inputs(model)
    latent = np.linspace(-2, 2, 5, dtype=np.float32)[:, None]

    @jax.jit
    def parts():
        bound = model.bind(variables)
        slots = bound.write(jax.random.key(0), support)
        return bound._read(latent, slots)[0], bound.latent_embedding(latent), slots.embeddings

    mixture, questions, embeddings = parts()
    scores = oracles.similarity(questions, embeddings, "key_normalized")
    for image, score in zip(mixture, scores, strict=True):
        expected = sum(w * m for w, m in zip(oracles.softmax(score), support, strict=True))
        np.testing.assert_allclose(image, expected, rtol=1e-4, atol=1e-5)


def test_the_order_of_the_support_does_not_matter():
    """What is asked is all that the matching network knows of the support."""
    model = tiny(MatchingNetwork)
    variables, (_, support) = initialize(model), inputs(model)
    question = np.linspace(-1, 1, 3, dtype=np.float32)

    @jax.jit
    def ask(support):
        bound = model.bind(variables)
        slots = bound.write(jax.random.key(0), support)
        basic = model.clone(num_hops=0).bind(variables)
        return bound._ask(question, slots), basic._ask(question, slots)[1]

    (mixture, (context,)), (unchanged,) = ask(support)
    (other_mixture, (other_context,)), _ = ask(support[::-1])
    np.testing.assert_array_equal(unchanged, question)
    np.testing.assert_allclose(mixture, other_mixture, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(context, other_context, rtol=1e-4, atol=1e-6)
    assert np.ptp(context - question) > 1e-3  # the hops did something


def test_the_prior_begins_by_reading_all_slots_alike():
    model = tiny(MatchingNetwork, embedding_size=100)
    drawn = model.init(jax.random.key(0), method=lambda bound: bound.prior_question)
    np.testing.assert_allclose(np.std(drawn["params"]["prior_question"]), 0.01, rtol=0.3)


@pytest.mark.parametrize("model_class", [SoftMemory, MatchingNetwork])
@pytest.mark.slow
def test_every_parameter_learns(model_class):
    assert_every_parameter_learns(tiny(model_class))


@pytest.mark.parametrize(
    "model_class", [SoftMemory, pytest.param(MatchingNetwork, marks=pytest.mark.slow)]
)
def test_pictures_from_a_memory_of_one_slot(model_class):
    model = tiny(model_class)
    variables, (query, support) = initialize(model), inputs(model)

    @jax.jit
    def draw(rng_key):
        bound = model.bind(variables)
        memory = bound.write(rng_key, support[:1])
        return bound.explain(rng_key, query, memory) | {
            "generated": bound.generate(rng_key, memory)
        }

    pictures = draw(jax.random.key(0))
    np.testing.assert_allclose(pictures["read mixture"], support[0], rtol=1e-6)
    for image in pictures.values():
        assert image.shape == _SHAPE and np.all((image >= 0) & (image <= 1))


def test_bad_fields_and_empty_memories_are_refused():
    assert_refused(tiny(SoftMemory, num_samples=0), "num_samples is 0; it must be at least 1")
    assert_refused(
        tiny(SoftMemory, similarity="dot"), "similarity is 'dot'; it must be one of key_normalized"
    )
    assert_refused(tiny(MatchingNetwork, num_hops=-1), "num_hops is -1; it must not be negative")
    assert_refused(tiny(SoftMemory), "the memory is empty", support=None)
