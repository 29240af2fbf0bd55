"""Importance weights of every model, term by term, against densities in float64 NumPy; metrics too.

The numbers that nets give are taken as they are; all that is added up is added up here.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.special
import scipy.stats

from memjax.memory import addressing
from memjax.models import VAE, VMA, KanervaMachine, MemVAE, SoftMemory
from memjax.models.episodic import EpisodicVAE
from tests import model_examples as every
from tests import oracles

_L = 3


def log_normal(value, parameters):
    """Of `[..., D]`; the parameters are loc and scale."""
    loc, scale = (np.asarray(x, np.float64) for x in parameters)
    return scipy.stats.norm.logpdf(np.asarray(value, np.float64), loc, scale).sum(-1)


def log_likelihood(query, pixels):
    """Of a Bernoulli's logits, or a Gaussian's loc and scale."""
    query = np.asarray(query, np.float64)
    if len(pixels) == 1:
        logits = np.asarray(pixels[0], np.float64)
        found = query * logits - np.logaddexp(0, logits)
    else:
        found = scipy.stats.norm.logpdf(query, *(np.asarray(x, np.float64) for x in pixels))
    return found.sum(axis=(-3, -2, -1))


def numbers(distribution):
    base = distribution.base_dist
    return (base.loc, base.scale) if hasattr(base, "loc") else (base.logits,)


def normal(rng_key, distribution):
    loc, scale = numbers(distribution)
    return loc + scale * jax.random.normal(rng_key, loc.shape)


def of_one_latent(model, rng_key, query, memory):
    prior = (0.0, 1.0)
    if isinstance(model, SoftMemory):
        prior, posterior = numbers(model._prior(memory)), model._posterior(query, memory)
        decode = functools.partial(model._decode, slots=memory)
    elif isinstance(model, MemVAE):
        posterior, decode = model._recognize(query)[0], model.decode
    else:
        posterior, decode = model._posterior(query), model._decode
    loc, scale = numbers(posterior)
    latent = loc + scale * jax.random.normal(rng_key, (_L, *loc.shape))
    return [(latent, prior)], [(latent, (loc, scale))], numbers(decode(latent)), ()


def of_an_address(model, rng_key, query, memory):
    address_rng_key, latent_rng_key = jax.random.split(rng_key)
    posterior_logits = model.address_logits(rng_key, query, memory)
    addresses, _ = addressing.sample(address_rng_key, posterior_logits, _L)
    slots = model._features(memory.contents[addresses])
    prior, posterior = model.nets.prior(slots), model.nets.posterior(slots, query)
    latent = normal(latent_rng_key, posterior)
    return (
        [(latent, numbers(prior))],
        [(latent, numbers(posterior))],
        numbers(model.pixels(model.nets.decode(slots, latent))),
        (addresses, memory.prior_logits, posterior_logits),
    )


def of_an_episode(model, rng_key, query, memory):
    embedding = model.image_encoder(query)

    def one(rng_key):
        noise_rng_key, address_rng_key, latent_rng_key = jax.random.split(rng_key, 3)
        address_posterior = model._address_posterior(noise_rng_key, memory, embedding)
        address = normal(address_rng_key, address_posterior)
        of_address = [(address, (jnp.zeros(1), jnp.ones(1)))]
        of_posterior = [(address, numbers(address_posterior))]
        prior = posterior = model._latent_prior(memory, address)
        if isinstance(prior, dist.Delta):  # what is read, by the weights themselves
            return of_address, of_posterior, numbers(model._decode(prior.v)), address
        if model.bottom_up:
            shift, log_scale = jnp.split(model.latent_posterior(embedding, prior.mean), 2, axis=-1)
            loc, scale = prior.mean + shift, jnp.exp(7 * jnp.tanh(log_scale / 7))
        else:
            loc, scale = numbers(posterior)
        latent = loc + scale * jax.random.normal(latent_rng_key, loc.shape)
        weights = model._weights(address) if isinstance(model, KanervaMachine) else jnp.zeros(1)
        return (
            [*of_address, (latent, numbers(prior))],
            [*of_posterior, (latent, (loc, scale))],
            numbers(model._decode(latent)),
            weights,
        )

    return jax.vmap(one)(jax.random.split(rng_key, _L))


_PARTS = {
    VAE: of_one_latent,
    MemVAE: of_one_latent,
    SoftMemory: of_one_latent,
    VMA: of_an_address,
    EpisodicVAE: of_an_episode,
}


def added_up(query, priors, posteriors, pixels):
    total = log_likelihood(query, pixels)
    for value, parameters in priors:
        total = total + log_normal(value, parameters)
    for value, parameters in posteriors:
        total = total - log_normal(value, parameters)
    return total


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=[pytest.mark.slow] * (n in (*every.SLOW, "KanervaMachine otherwise")))
        for n in every.NAMES
    ],
)
def test_log_weights_are_the_sum_of_their_terms(name):
    """And the metrics of as many samples are means over them."""
    model = every.MODELS[name]
    parts = next((p for cls, p in _PARTS.items() if isinstance(model, cls)), None)
    assert parts, f"say in `_PARTS` what the weights of a {name} are made of"
    variables, (query, support) = every.initial(model), every.inputs()

    @jax.jit
    def run(rng_key):
        memory = model.apply(variables, rng_key, support, method="write")
        given = rng_key, query, memory
        found = model.apply(variables, *given, num_samples=_L, method="log_weights")
        metrics = {}
        if hasattr(model, "num_samples"):
            sampled = {"address_estimator": "vimco"} if isinstance(model, VMA) else {}
            several = model.clone(num_samples=_L, **sampled)
            # Training adds noise to grey levels, or looks at the batch; else it changes nothing.
            is_alike = model.likelihood == "bernoulli" and not isinstance(model, MemVAE)
            metrics = several.apply(variables, *given, train=is_alike)[1]
        return found, model.apply(variables, *given, method=parts), memory, metrics

    found, (*terms, extra), memory, metrics = run(jax.random.key(1))
    expected = added_up(query, *terms)
    if metrics:
        check_metrics(metrics, query, *terms)
        np.testing.assert_allclose(-metrics["nll"], oracles.log_mean_exp(found), rtol=1e-5)
    if parts is of_an_address:
        addresses, *logits = (np.asarray(x) for x in extra)
        log_prior, log_posterior = (scipy.special.log_softmax(x)[addresses] for x in logits)
        expected = expected + log_prior - log_posterior
    elif isinstance(model, KanervaMachine) and model.addressing == "key":
        check_what_is_read(model, memory, extra, *terms[0][1][1])
    assert found.shape == expected.shape == (_L,)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4)


def check_metrics(metrics, query, priors, posteriors, pixels):
    reconstruction = -np.mean(log_likelihood(query, pixels))
    np.testing.assert_allclose(metrics["reconstruction"], reconstruction, rtol=1e-4)
    (_, prior), (_, posterior) = priors[-1], posteriors[-1]
    (loc_p, scale_p), (loc_q, scale_q) = (
        [np.asarray(x, np.float64) for x in parameters] for parameters in (prior, posterior)
    )
    squares = (scale_q**2 + (loc_q - loc_p) ** 2) / scale_p**2
    kl = (0.5 * (squares - 1) - np.log(scale_q / scale_p)).sum(-1).mean()
    np.testing.assert_allclose(metrics["kl_latent"], kl, rtol=1e-3, atol=1e-4)


def check_what_is_read(model, memory, weights, loc, scale):
    """p(z|y, M) of KM eq. 6; or eq. 19, of the memory's distribution."""
    weights, mean = np.asarray(weights, np.float64), np.asarray(memory.mean, np.float64)
    np.testing.assert_allclose(loc, weights @ mean, rtol=1e-3, atol=1e-4)
    variances = np.full(len(weights), model.noise_var)
    if model.memory_mode == "distribution":
        variances += np.einsum("tn,nm,tm->t", weights, memory.row_cov, weights)
    for column in np.broadcast_to(scale, loc.shape).T:
        np.testing.assert_allclose(column, np.sqrt(variances), rtol=1e-3)
