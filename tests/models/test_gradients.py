"""The models' choices of a gradient: none changes a value, and the unbiased ones no mean."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from memjax import estimators
from memjax.errors import UserError
from memjax.models import VAE, VMA, MemVAE, gradients
from tests.models.common import apply, assert_refused, initialize, inputs

_SHAPE = (3, 3, 1)
_SIZES = {"latent_size": 2, "hidden_sizes": (4,)}
MODELS = {
    "VAE": VAE(_SHAPE, num_samples=3, **_SIZES),
    "VMA": VMA(_SHAPE, num_samples=3, embedding_size=2, **_SIZES),
    "MemVAE": MemVAE(_SHAPE, num_samples=3, num_slots=(2,), **_SIZES),
}
_DRAWS = 4_000


@functools.cache
def means(name, latent_gradient, num_samples=3, method=None, **fields):
    """Values `[draws]`; gradients along four directions `[draws, 4]`."""
    model = MODELS[name].clone(latent_gradient=latent_gradient, num_samples=num_samples, **fields)
    variables, (query, support) = initialize(MODELS[name]), inputs(model)
    leaves = jax.tree.leaves(variables["params"])
    rng = np.random.default_rng(0)
    directions = [[rng.normal(size=leaf.shape) for leaf in leaves] for _ in range(4)]

    def one(params, rng_key):
        given = variables | {"params": params}
        memory = model.apply(given, rng_key, support, method="write")
        if method is not None:
            return model.apply(given, rng_key, query, memory, method=method)
        return model.apply(given, rng_key, query, memory, train=name != "MemVAE")[0]

    @jax.jit
    def many(rng_keys):
        def along(rng_key):
            value, gradient = jax.value_and_grad(one)(variables["params"], rng_key)
            pairs = [zip(jax.tree.leaves(gradient), d, strict=True) for d in directions]
            return value, jnp.stack([sum(jnp.vdot(a, b) for a, b in pair) for pair in pairs])

        return jax.vmap(along)(rng_keys)

    return jax.tree.map(np.asarray, many(jax.random.split(jax.random.key(0), _DRAWS)))


@pytest.mark.parametrize(
    ("name", "latent_gradient", "num_samples"),
    [
        ("VAE", "dreg", 3),
        pytest.param("VAE", "stl", 1, marks=pytest.mark.slow),
        pytest.param("MemVAE", "dreg", 3, marks=pytest.mark.slow),
        ("VMA", "gdreg", 3),
        pytest.param("VMA", "dreg", 3, marks=pytest.mark.slow),
        pytest.param("MemVAE", "stl", 1, marks=pytest.mark.slow),
    ],
)
def test_the_mean_gradient_is_the_standard_one(name, latent_gradient, num_samples):
    values, own = means(name, "standard", num_samples)
    again, found = means(name, latent_gradient, num_samples)
    np.testing.assert_allclose(again, values, rtol=1e-5)
    error = (found - own).std(axis=0) / np.sqrt(_DRAWS)
    assert np.all(np.abs((found - own).mean(axis=0)) < 4.5 * error)
    assert np.all(error > 0)


@pytest.mark.parametrize("latent_gradient", ["stl", "dreg", "gdreg"])
def test_without_its_score_an_exact_posterior_learns_nothing(latent_gradient):
    """p(z) = N(0, 1), p(x|z) = N(z, 1) at x = 1.2."""
    noise = np.random.default_rng(0).normal(size=(5, 1))

    @functools.partial(jax.jit, static_argnums=0)
    @functools.partial(jax.value_and_grad, argnums=1)
    def bound(kind, loc, scale=0.5**0.5):
        prior, posterior = (
            dist.Normal(jnp.full((5, 1), a), jnp.full((5, 1), b)).to_event(1)
            for a, b in ((0.0, 1.0), (loc, scale))
        )
        log_weights = gradients.weigh(
            kind,
            lambda latent: dist.Normal(latent[:, 0], 1.0).log_prob(1.2),
            prior,
            posterior,
            loc + scale * noise,
        )[1]
        return estimators.iwae(log_weights)

    (value, score), (again, found) = bound("standard", 0.6), bound(latent_gradient, 0.6)
    np.testing.assert_allclose(again, value, rtol=1e-6)
    assert abs(found) < 1e-5 < abs(score)
    assert abs(bound(latent_gradient, 0.0)[1]) > 0.1


def _elbo(model, rng_key, query, memory):
    """By one z at each address, and a sum over these."""
    log_q = jax.nn.log_softmax(model.address_logits(rng_key, query, memory))
    return jnp.exp(log_q) @ (model.address_log_weights(rng_key, query, memory) - log_q)


@pytest.mark.parametrize(
    "estimator", ["unordered_set", pytest.param("rloo", marks=pytest.mark.slow)]
)
def test_the_elbo_and_its_gradient(estimator):
    """Two of the four addresses give, in the mean, what the sum over all of them gives."""
    values, gradients_of = means("VMA", "standard", 2, address_estimator=estimator)
    all_values, all_gradients = means("VMA", "standard", method=_elbo)
    for found, wanted in ((values, all_values), (gradients_of, all_gradients)):
        error = np.hypot(found.std(axis=0), wanted.std(axis=0)) / np.sqrt(_DRAWS)
        assert np.all(np.abs(found.mean(axis=0) - wanted.mean(axis=0)) < 4.5 * error)


@pytest.mark.slow
def test_the_parts_of_a_sets_elbo():
    """In the mean they make up what is climbed, though likely addresses come first."""
    model = MODELS["VMA"].clone(num_samples=2, address_estimator="unordered_set")
    variables, (query, support) = initialize(MODELS["VMA"]), inputs(model)

    def one(rng_key):
        memory = model.apply(variables, rng_key, support, method="write")
        return model.apply(variables, rng_key, query, memory, train=True)[1]

    found = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), _DRAWS))
    parts = found["reconstruction"] + found["kl_address"] + found["kl_latent"]
    difference = np.asarray(found["nll"] - parts)
    assert abs(difference.mean()) < 4.5 * difference.std() / np.sqrt(_DRAWS)


def test_a_set_is_of_different_addresses():
    model = MODELS["VMA"].clone(num_samples=40, address_estimator="unordered_set")
    variables, (query, support) = initialize(MODELS["VMA"]), inputs(model)
    rng_key = jax.random.key(1)
    memory = apply(MODELS["VMA"], variables, rng_key, support, method="write")
    with pytest.raises(UserError, match=r"^num_samples is 40; with address_estimator 'unordered_"):
        model.apply(variables, rng_key, query, memory, train=True)


def test_evaluation_tells_the_same_bound():
    model = MODELS["VMA"]
    variables, (query, support) = initialize(model), inputs(model)
    rng_key = jax.random.key(1)
    memory = apply(model, variables, rng_key, support, method="write")
    given = variables, rng_key, query, memory
    bounds = [
        apply(model.clone(address_estimator=name), *given, method="__call__", train=False)[1]["nll"]
        for name in ("vimco", "rloo")
    ]
    np.testing.assert_array_equal(*bounds)


def test_a_second_pass_leaves_averages_and_penalty_as_they_are():
    """In training the averages move once; the penalty's gradient is that of one pass."""
    rng_keys = jax.random.split(jax.random.key(0), 6)
    queries = np.random.default_rng(0).integers(0, 2, (6, *_SHAPE)).astype(np.float32)

    def run(latent_gradient):
        model = MODELS["MemVAE"].clone(
            latent_gradient=latent_gradient, batch_axes=("batch",), local_reconstruction=1e6
        )
        variables = initialize(MODELS["MemVAE"])

        def one(params, rng_key, query):
            given = variables | {"params": params}
            (value, _), state = model.apply(
                given, rng_key, query, train=True, mutable=["batch_stats"]
            )
            return value, state

        def total(params):
            batched = jax.vmap(one, (None, 0, 0), (0, None), axis_name="batch")
            values, state = batched(params, rng_keys, queries)
            return jnp.mean(values), state

        return jax.jit(jax.value_and_grad(total, has_aux=True))(variables["params"])

    (value, state), gradient = run("standard")
    (again, moved), found = run("dreg")
    np.testing.assert_allclose(again, value, rtol=1e-5)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(moved), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    # So large a penalty drowns the bound, whose gradient is another.
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-4 * np.abs(a).max() + 100.0)


def test_few_slots_are_enumerated():
    """The default where there are no more slots than samples: a sum over all, one z for each."""
    model = MODELS["VMA"].clone(num_samples=4)
    variables, (query, support) = initialize(MODELS["VMA"]), inputs(model)
    rng_key = jax.random.key(1)
    memory = apply(model, variables, rng_key, support, method="write")
    given = variables, rng_key, query, memory
    objective, metrics = apply(model, *given, method="__call__", train=True)
    logits = apply(model, *given, method="address_logits")
    log_joint = apply(model, *given, method="address_log_weights")
    log_q = jax.nn.log_softmax(logits)
    expected = estimators.exact(log_joint - log_q, log_q, 4)
    np.testing.assert_allclose(objective, expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["nll"], -expected, rtol=1e-5)
    weights = jax.nn.logsumexp(log_joint)
    assert objective < weights  # the bound of all slots, which q(a|x) has no part in


@pytest.mark.parametrize(
    ("name", "num_slots", "num_samples", "latent_gradient", "chosen"),
    [
        ("auto", 4, 4, "standard", "exact"),
        ("auto", 1, 2, "stl", "exact"),
        ("auto", 5, 4, "standard", "vimco"),
        ("auto", 50, 50, "standard", "vimco"),  # more multisets than a decode is worth
        ("auto", 4, 4, "dreg", "vimco"),
        ("ovis", 4, 4, "standard", "ovis"),
        ("exact", 5, 4, "standard", "exact"),
    ],
)
def test_what_auto_chooses(name, num_slots, num_samples, latent_gradient, chosen):
    assert gradients.address_estimator(name, num_slots, num_samples, latent_gradient) == chosen


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("VAE", {"latent_gradient": "gdreg"}, "latent_gradient is 'gdreg'; it must be one of"),
        ("MemVAE", {"latent_gradient": "path"}, "latent_gradient is 'path'; it must be one of"),
        ("VMA", {"latent_gradient": "path"}, "standard, stl, dreg, gdreg"),
        (
            "VMA",
            {"address_estimator": "nvil"},
            "auto, exact, vimco, geometric, ovis, rloo, unordered_",
        ),
        (
            "VMA",
            {"address_estimator": "exact", "latent_gradient": "dreg"},
            "latent_gradient is 'dreg'; beside address_estimator 'exact' it must be 'standard'",
        ),
        (
            "VMA",
            {"address_estimator": "rloo", "latent_gradient": "gdreg"},
            "latent_gradient is 'gdreg'; beside address_estimator 'rloo' it must be 'standard'",
        ),
    ],
)
def test_bad_fields_are_refused(name, fields, message):
    assert_refused(MODELS[name].clone(**fields), message)
