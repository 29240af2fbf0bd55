"""DReG and its form for learned priors, against gradients by quadrature."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm

from memjax import estimators

# p(z) = N(loc, scale^2), p(x|z) = N(x; gain z, 1), q(z|x) = N(loc, scale^2); x = 1.
PARAMETERS = {"prior": np.array([0.3, -0.2]), "posterior": np.array([0.7, -0.6]), "gain": 1.2}

pytestmark = pytest.mark.usefixtures("strict_ranks", "float64")
stop = jax.lax.stop_gradient


def density(parameters, latent):
    return norm.logpdf(latent, parameters[0], jnp.exp(parameters[1]))


def place(parameters, noise):
    return parameters[0] + jnp.exp(parameters[1]) * noise


def log_weights(p, latent):
    likelihood = norm.logpdf(1.0, p["gain"] * latent, 1.0)
    return likelihood + density(p["prior"], latent) - density(p["posterior"], latent)


def objective(kind, num_samples, p, rng_key):
    noise = jax.random.normal(rng_key, (num_samples,))
    latent = place(p["posterior"], noise)
    if kind == "standard":
        return estimators.iwae(log_weights(p, latent))
    fixed = p | {"posterior": stop(p["posterior"])}
    if kind == "stl":
        return estimators.iwae(log_weights(fixed, latent))
    first = log_weights(p, latent)
    if kind == "dreg":
        return estimators.iwae(log_weights(fixed, estimators.dreg(first, latent)))
    again = stop((latent - p["prior"][0]) / jnp.exp(p["prior"][1]))
    for_likelihood, for_densities = estimators.gdreg(first, latent, place(p["prior"], again))
    fixed = stop(p)
    likelihood = norm.logpdf(1.0, p["gain"] * for_likelihood, 1.0)
    ratio = density(fixed["prior"], for_densities) - density(fixed["posterior"], for_densities)
    return estimators.iwae(likelihood + ratio)


@functools.cache
def gradients(kind, num_samples, num_draws=200_000):
    """`[draws, 5]`, in the prior's, the posterior's and the likelihood's parameters."""

    @jax.jit
    def many(rng_keys):
        def one(rng_key):
            g = jax.grad(functools.partial(objective, kind, num_samples))(PARAMETERS, rng_key)
            return jnp.concatenate([g["prior"], g["posterior"], g["gain"][None]])

        return jax.lax.map(jax.vmap(one), rng_keys)

    rng_keys = jax.random.split(jax.random.key(0), (num_draws // 5_000, 5_000))
    return np.asarray(many(rng_keys)).reshape(num_draws, 5)


@functools.cache
def exact():
    """The gradient of the bound of two samples, by a grid of their noises."""
    nodes, shares = np.polynomial.hermite_e.hermegauss(80)
    shares = shares / shares.sum()

    @jax.jit
    @jax.grad
    def bound(p):
        logs = log_weights(p, place(p["posterior"], jnp.asarray(nodes)))
        pairs = jnp.logaddexp(logs[:, None], logs[None, :]) - jnp.log(2.0)
        return shares @ pairs @ shares

    g = bound(jax.tree.map(jnp.asarray, PARAMETERS))
    return np.concatenate([g["prior"], g["posterior"], np.asarray(g["gain"])[None]])


@pytest.mark.parametrize("kind", ["standard", "dreg", "gdreg"])
def test_mean_of_many_gradients_is_the_exact_one(kind):
    found = gradients(kind, 2)
    standard_error = found.std(axis=0) / np.sqrt(len(found))
    assert np.all(np.abs(found.mean(axis=0) - exact()) < 4 * standard_error)


def test_sticking_the_landing_is_biased_beyond_one_sample():
    found = gradients("stl", 2)
    standard_error = found.std(axis=0) / np.sqrt(len(found))
    assert np.any(np.abs(found.mean(axis=0) - exact())[2:4] > 10 * standard_error[2:4])
    np.testing.assert_allclose(gradients("stl", 1, 10_000), gradients("dreg", 1, 10_000))


def signal_to_noise(found):
    return np.abs(found.mean(axis=0)) / found.std(axis=0)


@pytest.mark.slow
def test_signal_to_noise_grows_where_it_fell():
    """As the root of the number of samples, for the parameters of q; Tucker et al. 2019."""
    ratios = {}
    for kind in ("standard", "dreg"):
        few, many = (signal_to_noise(gradients(kind, n, 5_000))[2:4] for n in (8, 128))
        ratios[kind] = many / few
    assert np.all(ratios["dreg"] > 2.0) and np.all(ratios["standard"] < 0.5)


def test_the_prior_gets_less_noise_where_the_posterior_is_near_it():
    """Where the likelihood is steeper than the prior it gets more."""
    rng_keys = jax.random.split(jax.random.key(0), 1_000)

    def noise(kind, gain):
        one = jax.grad(functools.partial(objective, kind, 16))
        p = {"prior": np.zeros(2), "posterior": np.array([0.1, -0.1]), "gain": gain}
        return np.asarray(jax.jit(jax.vmap(one, (None, 0)))(p, rng_keys)["prior"]).var(axis=0)

    assert np.all(noise("gdreg", 0.3) < 0.5 * noise("dreg", 0.3))
    assert np.all(noise("gdreg", 3.0) > noise("dreg", 3.0))


def test_nothing_moves_where_q_is_the_posterior():
    precision = 1 + 1.2**2
    p = {
        "prior": jnp.zeros(2),
        "posterior": jnp.array([1.2 / precision, -0.5 * np.log(precision)]),
        "gain": jnp.array(1.2),
    }
    for kind in ("dreg", "gdreg", "stl"):
        g = jax.jit(jax.grad(functools.partial(objective, kind, 8)))(p, jax.random.key(0))
        np.testing.assert_allclose(g["posterior"], 0.0, atol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_latents_keep_their_numbers_and_their_type(dtype):
    latent = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2, 2)), dtype)
    logs = jnp.array([-1.0, -jnp.inf, -2.0], jnp.float32)
    given = estimators.dreg(logs, latent)
    assert given.dtype == dtype
    np.testing.assert_array_equal(given, latent)
    for found in estimators.gdreg(logs, latent, latent):
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, latent)

    @jax.jit
    def pull(logs, cotangent):
        return jax.vjp(estimators.dreg, logs, latent)[1](cotangent)

    in_logs, in_latent = pull(logs, jnp.ones_like(latent))
    assert not np.any(in_logs)
    weights = np.exp([-1.0, -np.inf, -2.0]) / np.exp([-1.0, -2.0]).sum()
    np.testing.assert_allclose(in_latent[:, 0, 0].astype(np.float32), weights, rtol=5e-3)
    assert np.all(np.isfinite(pull(jnp.full(3, -jnp.inf, jnp.float32), latent)[1]))


def test_what_does_not_fit_is_refused():
    logs, latent = jnp.zeros(2), jnp.zeros((3, 4))
    with pytest.raises(ValueError, match=r"latent is \(3, 4\); it must be \[L, ...\] with L = 2"):
        estimators.dreg(logs, latent)
    with pytest.raises(ValueError, match=r"prior_latent is \(3,\); it must be as latent, \(3, 4\)"):
        estimators.gdreg(jnp.zeros(3), latent, jnp.zeros(3))
    with pytest.raises(ValueError, match=r"log_weights is \(0,\)"):
        estimators.dreg(jnp.zeros(0), jnp.zeros(0))
