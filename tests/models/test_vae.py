import jax
import numpy as np
import pytest
import scipy.stats

from memjax.models import VAE
from tests import oracles
from tests.model_examples import Decoder, Encoder
from tests.models.common import (
    apply,
    assert_every_parameter_learns,
    assert_mean_is,
    assert_refused,
    initialize,
    inputs,
    shapes,
)

_SHAPE = (3, 3, 1)
_NETS = {"encoder": Encoder(), "decoder": Decoder(_SHAPE)}


def tiny(**overrides):
    fields = {"latent_size": 1, "hidden_sizes": (6, 4)}
    return VAE((5, 5, 1) if "num_filters" in overrides else _SHAPE, **fields | overrides)


def slow(**fields):
    return pytest.param(fields, marks=pytest.mark.slow)


@pytest.mark.parametrize("fields", [{}, {"likelihood": "gaussian"}, slow(**_NETS)], ids=str)
def test_weights_average_to_the_exact_likelihood(fields):
    model = tiny(num_samples=20_000, **fields)
    variables, (query, _) = initialize(model), inputs(model)

    @jax.jit
    def run(rng_key):
        bound = model.bind(variables)
        log_weights = bound.log_weights(rng_key, query, None, 20_000)
        log_likelihoods = bound._decode(oracles.LATENT_GRID[:, None]).log_prob(query[None])
        return bound(rng_key, query, train=False)[0], log_weights, log_likelihoods

    found = (np.asarray(x, np.float64) for x in run(jax.random.key(1)))
    objective, log_weights, log_likelihoods = found
    np.testing.assert_allclose(objective, oracles.log_mean_exp(log_weights), rtol=1e-5)
    step = float(oracles.LATENT_GRID[1] - oracles.LATENT_GRID[0])
    densities = scipy.stats.norm.pdf(oracles.LATENT_GRID.astype(np.float64))
    assert_mean_is(np.exp(log_weights), np.sum(densities * np.exp(log_likelihoods)) * step)


def test_the_bound_is_the_log_of_the_weights_mean():
    """Of the same draws; with the test above, it is below the likelihood."""
    model = tiny(num_samples=16)
    variables, (query, _) = initialize(model), inputs(model)
    rng_key = jax.random.key(1)
    objective, metrics = apply(model, variables, rng_key, query, method="__call__", train=True)
    log_weights = apply(
        model, variables, rng_key, query, None, num_samples=16, method="log_weights"
    )
    np.testing.assert_allclose(objective, oracles.log_mean_exp(log_weights), rtol=1e-5)
    np.testing.assert_array_equal(metrics["nll"], -objective)


def test_elbo_is_reconstruction_and_kl():
    model = tiny()
    variables, (query, _) = initialize(model), inputs(model)
    one = jax.vmap(lambda k: model.apply(variables, k, query, train=True)[1])
    metrics = jax.jit(one)(jax.random.split(jax.random.key(0), 5_000))
    gaps = np.asarray(metrics["nll"] - metrics["reconstruction"] - metrics["kl_latent"])
    assert abs(gaps.mean()) < 5 * gaps.std() / np.sqrt(len(gaps))


@pytest.mark.parametrize(
    "fields",
    [
        slow(num_samples=3),
        slow(likelihood="gaussian"),
        slow(num_filters=3),
        slow(num_filters=3, convolutions="pyramid"),
    ],
    ids=str,
)
def test_every_parameter_learns(fields):
    assert_every_parameter_learns(tiny(**fields))


def test_the_decoders_hidden_sizes_are_the_encoders_in_reverse():
    decoder = shapes(tiny(hidden_sizes=(6, 4, 5)))["params"]["image_decoder"]
    kernels = [leaf.shape for leaf in jax.tree.leaves(decoder) if leaf.ndim == 2]
    assert {(1, 5), (5, 4), (4, 6)} <= set(kernels)


def test_generated_and_explained_images():
    model = tiny()
    variables, (query, _) = initialize(model), inputs(model)
    pictures = apply(model, variables, jax.random.key(0), query, method="explain")
    generated = apply(model, variables, jax.random.key(0), method="generate")
    for image in [generated, *pictures.values()]:
        assert image.shape == _SHAPE and np.all((image >= 0) & (image <= 1))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_samples": 0}, "num_samples is 0; it must be at least 1"),
        ({"latent_size": 0}, "latent_size is 0; it must be at least 1"),
        ({"likelihood": "beta"}, "likelihood is 'beta'; it must be one of bernoulli"),
        ({"convolutions": "u"}, "convolutions is 'u'; it must be one of residual, pyramid"),
    ],
)
def test_bad_fields_are_refused(fields, message):
    assert_refused(tiny(**fields), message)
