import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
import scipy.stats

from memjax.errors import UserError
from memjax.memory import kanerva
from memjax.models.kanerva_machine import KanervaMachine

_SHAPE = (3, 3, 1)
_GRID = np.linspace(-8, 8, 401)  # a Riemann sum of smooth, decaying functions


def tiny(**fields):
    defaults = {
        "num_slots": 3,
        "code_size": 1,
        "address_size": 2,
        "address_latent_size": 1,
        "num_filters": 0,
        "hidden_sizes": (6, 4),
        "mlp_size": 5,
    }
    return KanervaMachine(_SHAPE, **(defaults | fields))


def episode(length=4, shape=_SHAPE):
    return np.random.default_rng(0).integers(0, 2, (length, *shape)).astype(np.float32)


@functools.cache
def initialize(model, scale=0.4):
    query, rng_key = episode(shape=model.image_shape), jax.random.key(0)

    @jax.jit
    def init():
        variables = model.init(rng_key, rng_key, query, train=False)
        params = jax.tree.map(
            lambda p: p + scale * jax.random.normal(rng_key, p.shape), variables["params"]
        )
        return {**variables, "params": params}

    return init()


@pytest.mark.slow
def test_importance_weights_average_to_the_exact_likelihood():
    """p(x_t|M) by a sum over a grid of y and z."""
    model, query = tiny(address_scale=1.0), episode()
    variables = initialize(model, scale=0.1)
    for name in ("latent_posterior", "address_posterior"):  # near the prior: no heavy tail
        output = variables["params"][name]["output"]
        variables["params"][name]["output"] = jax.tree.map(lambda p: 0.3 * p, output)
    log_weights = jax.jit(partial(model.apply, method="log_weights", num_samples=50_000))(
        variables, jax.random.key(1), query, None
    )
    assert log_weights.shape == (4, 50_000)
    bound = model.bind(variables)
    memory = bound.write(jax.random.key(0), query)
    grid = _GRID[:, None].astype(np.float32)
    means = np.asarray(kanerva.read(memory, bound._weights(grid))[0], np.float64)[:, 0]
    probs = scipy.special.expit(
        np.asarray(bound.decoder(grid).base_dist.logits, np.float64)
    )  # [G, H, W, C]
    prior = scipy.stats.norm.pdf(_GRID)[:, None] * scipy.stats.norm.pdf(
        _GRID[None, :], means[:, None], 1.0
    )
    cell = (_GRID[1] - _GRID[0]) ** 2
    for image, row in zip(query, np.asarray(log_weights, np.float64), strict=True):
        likelihood = np.prod(np.where(image == 1, probs, 1 - probs), axis=(1, 2, 3))
        exact = np.sum(prior * likelihood[None, :]) * cell
        weights = np.exp(row)
        standard_error = weights.std() / np.sqrt(len(weights))
        assert abs(weights.mean() - exact) < 5 * standard_error
        assert standard_error < 0.1 * exact


def kl_by_numpy(posterior, prior):
    """KL of two matrix normals whose columns are independent, in float64."""
    (mean_q, cov_q), (mean_p, cov_p) = (
        (np.asarray(m.mean, np.float64), np.asarray(m.row_cov, np.float64))
        for m in (posterior, prior)
    )
    if cov_q.ndim == 1:
        cov_q, cov_p = np.diag(cov_q), np.diag(cov_p)
    kl = 0.0
    for difference in (mean_q - mean_p).T:
        kl += np.trace(np.linalg.solve(cov_p, cov_q)) - len(cov_p)
        kl += difference @ np.linalg.solve(cov_p, difference)
        kl += np.linalg.slogdet(cov_p)[1] - np.linalg.slogdet(cov_q)[1]
    return 0.5 * kl


@pytest.mark.parametrize("fields", [{}, pytest.param({"diagonal": True}, marks=pytest.mark.slow)])
def test_the_memorys_divergence_is_what_was_written_for_each_image(fields):
    model, query = tiny(**fields), episode()
    variables = initialize(model)

    @jax.jit
    def run(rng_key):
        _, metrics = model.apply(variables, rng_key, query, train=False)
        write_rng_key = jax.random.split(rng_key, 3)[1]
        memory = model.apply(variables, write_rng_key, query, method="write")
        return metrics["kl_memory"], memory, model.apply(variables, method="memory_prior")

    found, memory, prior = run(jax.random.key(1))
    np.testing.assert_allclose(found, kl_by_numpy(memory, prior) / len(query), rtol=1e-3)


def test_the_divergence_is_told_where_the_memory_is_a_distribution():
    for mode in ("mean", "distribution", "sample"):
        model = tiny(memory_mode=mode)
        run = functools.partial(model.init_with_output, train=False)
        (_, metrics), _ = jax.eval_shape(run, jax.random.key(0), jax.random.key(0), episode())
        assert ("kl_memory" in metrics) == (mode != "sample")


def test_a_donated_memory_leaves_the_parameters():
    model = tiny()
    variables = initialize(model)
    memory = model.apply(variables, method="memory_prior")
    jax.jit(lambda m: jax.tree.map(jnp.negative, m), donate_argnums=0)(memory)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(variables))


def test_the_bound_is_the_sum_of_its_parts_and_below_the_likelihood():
    model, query = tiny(), episode()
    variables = initialize(model)
    rng_keys = jax.random.split(jax.random.key(1), 2_000)

    @jax.jit
    @jax.vmap
    def bounds(rng_key):
        return model.apply(variables, rng_key, query, train=False)

    objective, metrics = bounds(rng_keys)
    parts = metrics["reconstruction"] + metrics["kl_address"] + metrics["kl_latent"]
    np.testing.assert_allclose(metrics["nll"], parts, rtol=1e-5)
    np.testing.assert_allclose(objective, -metrics["nll"], rtol=1e-5)
    log_weights = jax.jit(
        jax.vmap(
            lambda k: model.apply(variables, k, query, None, method="log_weights", num_samples=1)
        )
    )(rng_keys)
    likelihood = jax.nn.logsumexp(log_weights[:, :, 0], axis=0) - np.log(len(rng_keys))
    assert np.mean(objective) < np.mean(likelihood) + 0.1


@pytest.mark.parametrize(
    "addressing", ["key", pytest.param("least_squares", marks=pytest.mark.slow)]
)
def test_no_bound_is_below_the_log_of_the_episodes_length(addressing):
    """Probabilities of distinct images sum to at most one; less would be a leak.

    The episode is always the same, and training soon knows it by heart.
    """
    length, shape = 8, (2, 2, 1)
    numbers = np.random.default_rng(0).permutation(16)[:length]
    query = (numbers[:, None] >> np.arange(4) & 1).reshape(length, *shape).astype(np.float32)
    model = KanervaMachine(
        shape,
        num_slots=8,
        code_size=8,
        address_size=8,
        address_latent_size=8,
        num_filters=0,
        hidden_sizes=(32, 32),
        addressing=addressing,
    )
    optimizer = optax.adam(3e-3)
    variables = jax.jit(partial(model.init, train=False))(
        jax.random.key(0), jax.random.key(0), query
    )

    def loss(variables, rng_key):
        apply = jax.vmap(lambda k: model.apply(variables, k, query, train=True)[0])
        return -jnp.mean(apply(jax.random.split(rng_key, 8)))

    @jax.jit
    def train(variables):
        def step(state, rng_key):
            variables, opt_state = state
            value, gradient = jax.value_and_grad(loss)(variables, rng_key)
            updates, opt_state = optimizer.update(gradient, opt_state)
            return (optax.apply_updates(variables, updates), opt_state), value

        rng_keys = jax.random.split(jax.random.key(1), 1_500)
        return jax.lax.scan(step, (variables, optimizer.init(variables)), rng_keys)

    losses = np.asarray(train(variables)[1])
    assert losses[-200:].mean() < losses[0]
    assert losses[-200:].mean() > np.log(length)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"memory_mode": "sample"}, marks=pytest.mark.slow),
        pytest.param({"memory_mode": "distribution", "diagonal": True}, marks=pytest.mark.slow),
        pytest.param(
            {"addressing": "least_squares", "memory_mode": "distribution"}, marks=pytest.mark.slow
        ),
        pytest.param(
            {"likelihood": "gaussian", "num_filters": 2, "diagonal": True}, marks=pytest.mark.slow
        ),
    ],
)
def test_every_option_has_finite_values_and_gradients_everywhere(options):
    shape = (8, 8, 1) if "num_filters" in options else _SHAPE
    model, query = tiny(**options).clone(image_shape=shape), episode(shape=shape)
    variables = initialize(model)

    @jax.jit
    def value_and_grad(params):
        def objective(params):
            return model.apply({"params": params}, jax.random.key(1), query, train=True)[0]

        return jax.value_and_grad(objective)(params)

    value, gradient = value_and_grad(variables["params"])
    assert np.isfinite(value)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.all(np.isfinite(leaf)), path
        assert np.any(leaf != 0), path


def test_the_prior_covariance_is_positive_definite_and_its_own():
    model = tiny()
    bound = model.bind(initialize(model))
    row_cov = bound.memory_prior().row_cov
    assert np.linalg.eigvalsh(np.asarray(row_cov, np.float64)).min() > 0
    np.testing.assert_array_equal(row_cov, row_cov.T)


def test_warm_up_scales_the_objective_and_not_the_metrics():
    model, query = tiny(kl_warmup_steps=4, kl_warmup_start=0.2), episode()
    variables = initialize(model)
    step = jax.jit(
        lambda v: model.apply(v, jax.random.key(1), query, train=True, mutable=["schedule"])
    )
    for scale in (0.2, 0.4, 0.6, 0.8, 1.0, 1.0):
        (objective, metrics), schedule = step(variables)
        kl = metrics["kl_address"] + metrics["kl_latent"]
        np.testing.assert_allclose(objective, -metrics["reconstruction"] - scale * kl, rtol=1e-5)
        np.testing.assert_allclose(metrics["nll"], metrics["reconstruction"] + kl, rtol=1e-5)
        variables = variables | schedule


def test_what_is_written_is_read_and_pictured():
    model, query = tiny(), episode()
    variables = initialize(model)
    pictures = model.apply(variables, jax.random.key(0), query, method="explain")
    assert pictures["query"].shape == pictures["reconstruction"].shape == query.shape
    for support in (None, query):
        image = model.apply(variables, jax.random.key(0), support, method="generate")
        assert image.shape == _SHAPE and np.all((image >= 0) & (image <= 1))
    memory = model.apply(variables, jax.random.key(0), query, method="write")
    read_weights = model.apply(variables, jax.random.key(0), memory, query, method="weights")
    images = model.apply(
        variables, jax.random.key(0), memory, read_weights, method="decode_weights"
    )
    assert images.shape == query.shape and read_weights.shape == (4, 3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"memory_mode": "mode"}, "memory_mode is 'mode'; it must be one of mean, sample"),
        ({"addressing": "hard"}, "addressing is 'hard'; it must be one of key, least_squares"),
        ({"likelihood": "beta"}, "likelihood is 'beta'; it must be one of bernoulli, gaussian"),
        ({"num_slots": 0}, "num_slots is 0; it must be at least 1"),
        ({"noise_var": 0.0}, "noise_var is 0.0; it must be above 0"),
        ({"address_noise": -1.0}, "address_noise is -1.0; it must not be negative"),
        ({"num_filters": 2}, "images are 3 x 3; the convolutions halve them 3 times"),
    ],
)
def test_bad_fields_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        initialize(tiny(**fields))
