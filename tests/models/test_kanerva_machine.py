import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest
import scipy.special
import scipy.stats

from memjax.errors import UserError
from memjax.memory import kanerva
from memjax.models import KanervaMachine, denoising
from memjax.models.episodic import READINGS
from memjax.models.kanerva_machine import ADDRESSINGS
from memjax.nets import distributions
from tests import oracles
from tests.models.common import (
    apply,
    assert_every_parameter_learns,
    assert_mean_is,
    assert_refused,
    initialize,
    inputs,
    one_query,
)

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


def slow(**fields):
    return pytest.param(fields, marks=pytest.mark.slow)


def test_weights_average_to_the_exact_likelihood():
    """p(x|M) by a sum over a grid of y and z."""
    model = tiny(address_scale=1.0)
    variables, (query, support) = initialize(model), inputs(model)
    params = dict(variables["params"])
    for name in ("latent_posterior", "address_posterior"):  # near the prior: no heavy tail
        params[name] = params[name] | {
            "output": jax.tree.map(lambda p: 0.3 * p, params[name]["output"])
        }
    grid = _GRID[:, None].astype(np.float32)

    @jax.jit
    def run(rng_key):
        bound = model.bind({"params": params})
        memory = bound.write(rng_key, support)
        log_weights = bound.log_weights(rng_key, query, memory, 20_000)
        mean = kanerva.read(memory, bound._weights(grid))[0][:, 0]
        return log_weights, mean, bound.image_decoder(grid)

    log_weights, means, logits = (np.asarray(x, np.float64) for x in run(jax.random.key(1)))
    likelihood = scipy.special.expit(np.where(query == 1, logits, -logits)).prod(axis=(1, 2, 3))
    latent_prior = scipy.stats.norm.pdf(_GRID[None, :], means[:, None], 1.0)
    cell = (_GRID[1] - _GRID[0]) ** 2
    exact = cell * (scipy.stats.norm.pdf(_GRID)[:, None] * latent_prior * likelihood).sum()
    assert_mean_is(np.exp(log_weights), exact)


def ridge(basis, codes, noise_var):
    """The weights of codes on the rows of a basis, in float64."""
    inner = basis @ basis.T + noise_var * np.eye(len(basis))
    return np.linalg.solve(inner, basis @ codes.T).T


def write_by_numpy(mean, cov, weights, codes, noise_var):
    """KM eqs. 9-11."""
    cross = weights @ cov
    gain = np.linalg.solve(cross @ weights.T + noise_var * np.eye(len(codes)), cross).T
    return mean + gain @ (codes - weights @ mean), cov - gain @ cross


# So that the weights matter, and q(w|x, M) has no light tail.
_LOG_NOISE_VARS = {"least_squares": 1.2, "pseudo_inverse": 0.0}


def by_least_squares(addressing, **fields):
    fields = {"num_slots": 2, "code_size": 3, "bottom_up": False} | fields
    model = tiny(addressing=addressing, **fields)
    variables = initialize(model)
    log_var = _LOG_NOISE_VARS[addressing]
    return model, {"params": variables["params"] | {"noise_log_var": np.float32(log_var)}}


@pytest.mark.parametrize(
    "addressing", ["least_squares", pytest.param("pseudo_inverse", marks=pytest.mark.slow)]
)
def test_weights_by_least_squares_are_those_of_equations_solved_by_hand(addressing):
    """Of the writes of an episode, one after the other, and of a reading."""
    model, variables = by_least_squares(addressing)
    query, support = inputs(model)

    @jax.jit
    def run(rng_key):
        bound = model.bind(variables)
        encoded = bound.encode(rng_key, jnp.concatenate([support, query[None]]))
        written = jax.tree.map(lambda leaf: leaf[:-1], encoded)
        memory, embedding = bound.write(rng_key, written), encoded.embedding
        base = bound._address_posterior(rng_key, memory, embedding[-1]).base_dist
        return memory, bound.memory_prior(), embedding[:, :3], base.loc, base.scale

    memory, prior, codes, loc, scale = jax.tree.map(np.float64, run(jax.random.key(0)))
    *codes, code = codes
    noise_var = np.exp(_LOG_NOISE_VARS[addressing])
    mean, cov = prior.mean, prior.row_cov
    if addressing == "pseudo_inverse":
        assert not mean.any()
        weights = ridge(
            np.float64(variables["params"]["address_matrix"]), np.stack(codes), noise_var
        )
        mean, cov = write_by_numpy(mean, cov, weights, np.stack(codes), noise_var)
    else:
        for z in codes:
            weights = ridge(mean, z[None], noise_var)
            mean, cov = write_by_numpy(mean, cov, weights, z[None], noise_var)
    np.testing.assert_allclose(memory.mean, mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(memory.row_cov, cov, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(loc, ridge(mean, code, noise_var), rtol=1e-4, atol=1e-5)
    # The diagonal Gaussian nearest to one of this precision, by KL(q || p).
    precision = np.eye(2) + mean @ mean.T / noise_var
    np.testing.assert_allclose(scale, np.diag(precision) ** -0.5, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("addressing", ["least_squares", "pseudo_inverse"])
def test_a_bound_by_least_squares_pays_for_the_weights_that_it_draws(addressing):
    """p(x|M) by a sum over a grid of w; in training, the code is decoded too."""
    model, variables = by_least_squares(addressing)
    query, support = inputs(model)

    @jax.jit
    def run(rng_key):
        bound = model.bind(variables)
        memory, encoded = bound.write(rng_key, support), bound.encode(rng_key, query)
        log_code = bound._decode(encoded.embedding[:3]).log_prob(query)
        found = [bound(rng_key, encoded, memory, train=train) for train in (False, True)]
        log_weights = bound.log_weights(rng_key, encoded, memory, 4_000)
        grid = jnp.stack(jnp.meshgrid(*[jnp.linspace(-6.0, 6.0, 81)] * 2), axis=-1).reshape(-1, 2)
        base = bound._address_posterior(rng_key, memory, encoded.embedding).base_dist
        logits = bound.image_decoder(grid @ memory.mean)
        return log_code, found, base.loc, base.scale, log_weights, grid, logits

    log_code, found, *arrays = run(jax.random.key(0))
    loc, scale, log_weights, grid, logits = (np.asarray(x, np.float64) for x in arrays)
    (held_out, metrics), (trained, _) = found
    np.testing.assert_allclose(trained, held_out + log_code, rtol=1e-5)
    kl = 0.5 * np.sum(loc**2 + scale**2 - 1 - 2 * np.log(scale))
    np.testing.assert_allclose(metrics["kl_address"], kl, rtol=1e-4)
    assert metrics["kl_latent"] == 0
    np.testing.assert_allclose(held_out, -metrics["reconstruction"] - kl, rtol=1e-5)
    likelihood = scipy.special.expit(np.where(query == 1, logits, -logits)).prod(axis=(1, 2, 3))
    exact = 0.15**2 * np.sum(scipy.stats.norm.pdf(grid).prod(axis=1) * likelihood)
    assert_mean_is(np.exp(log_weights), exact)


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


@pytest.mark.parametrize("fields", [{}, slow(diagonal=True)], ids=str)
def test_the_memorys_divergence_is_what_was_written_for_each_image(fields):
    model = tiny(**fields)
    variables, (_, support) = initialize(model), inputs(model)

    @jax.jit
    def run(rng_key):
        bound = model.bind(variables)
        memory = bound.write(rng_key, support)
        return bound.memory_metrics(memory, 4)["kl_memory"], memory, bound.memory_prior()

    found, memory, prior = run(jax.random.key(1))
    np.testing.assert_allclose(found, kl_by_numpy(memory, prior) / 4, rtol=1e-3)


def test_the_divergence_is_told_where_the_memory_is_a_distribution():
    for mode in ("mean", "distribution", "sample"):
        model = tiny(memory_mode=mode)
        bound = model.bind(initialize(model))
        metrics = jax.eval_shape(lambda bound=bound: bound.memory_metrics(bound.memory_prior(), 4))
        assert ("kl_memory" in metrics) == (mode != "sample")


def test_what_is_written_is_a_draw_or_the_codes_distribution(monkeypatch):
    """A distribution goes in by its mean; its variance, averaged over the code, is noise."""
    loc, scale = np.ones((2, 2), np.float32), np.array([[1, 2], [3, 3]], np.float32)
    codes, address = dist.Normal(loc, scale).to_event(1), np.eye(2)
    variables = initialize(tiny())
    monkeypatch.setattr(KanervaMachine, "_weights", lambda self, address: address)
    monkeypatch.setattr(kanerva, "write", lambda memory, *written: written)
    for mode in ("mean", "distribution"):
        model = tiny(memory_mode=mode, noise_var=0.5).bind(variables)
        weights, latent, noise_var = model._write_codes(jax.random.key(0), None, address, codes)
        np.testing.assert_array_equal(weights, address)
        assert np.all(latent == loc) == (mode == "distribution")
        np.testing.assert_allclose(noise_var, 0.5 if mode == "mean" else [3.0, 9.5])


def test_a_donated_memory_leaves_the_parameters():
    model = tiny()
    variables = jax.tree.map(jnp.asarray, initialize(model))
    memory = model.apply(variables, jax.random.key(0), None, method="write")
    jax.jit(lambda m: jax.tree.map(jnp.negative, m), donate_argnums=0)(memory)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(variables))


@pytest.mark.slow
def test_the_bound_is_the_sum_of_its_parts_and_below_the_likelihood():
    model = tiny()
    variables, (query, support) = initialize(model), inputs(model)

    @jax.jit
    def run(rng_keys):
        one = functools.partial(model.apply, variables)
        memory = one(rng_keys[0], support, method="write")
        bounds = jax.vmap(lambda k: one(k, query, memory, train=False))(rng_keys)
        return bounds, one(rng_keys[0], query, memory, 2_000, method="log_weights")

    (objective, metrics), log_weights = run(jax.random.split(jax.random.key(1), 2_000))
    parts = metrics["reconstruction"] + metrics["kl_address"] + metrics["kl_latent"]
    np.testing.assert_allclose(metrics["nll"], parts, rtol=1e-5)
    np.testing.assert_allclose(objective, -metrics["nll"], rtol=1e-5)
    assert np.mean(objective) < oracles.log_mean_exp(log_weights) + 0.1


@pytest.mark.parametrize(
    "addressing",
    ["key", *(pytest.param(a, marks=pytest.mark.slow) for a in ADDRESSINGS if a != "key")],
)
def test_no_bound_is_below_the_log_of_the_episodes_length(addressing):
    """Probabilities of distinct images sum to at most one; less would be a leak.

    The episode is always the same, and training soon knows it by heart.
    """
    length, shape = 4, (2, 2, 1)
    numbers = np.random.default_rng(0).permutation(16)[:length]
    episode = (numbers[:, None] >> np.arange(4) & 1).reshape(length, *shape).astype(np.float32)
    model = KanervaMachine(
        shape,
        num_slots=4,
        code_size=4,
        address_size=4,
        address_latent_size=4,
        num_filters=0,
        hidden_sizes=(16, 16),
        mlp_size=16,
        addressing=addressing,
        bottom_up=addressing == "key",
    )
    optimizer = optax.adam(5e-3)

    def loss(variables, rng_key):
        run = functools.partial(model.apply, variables)

        def bound(rng_key):
            write_rng_key, read_rng_key = jax.random.split(rng_key)
            memory = run(write_rng_key, episode, method="write")
            rng_keys = jax.random.split(read_rng_key, length)
            return jax.vmap(lambda k, x: run(k, x, memory, train=True)[0])(rng_keys, episode)

        return -jnp.mean(jax.vmap(bound)(jax.random.split(rng_key, 8)))

    @jax.jit
    def train(variables):
        def step(state, rng_key):
            variables, opt_state = state
            value, gradient = jax.value_and_grad(loss)(variables, rng_key)
            updates, opt_state = optimizer.update(gradient, opt_state)
            return (optax.apply_updates(variables, updates), opt_state), value

        rng_keys = jax.random.split(jax.random.key(1), 500)
        return jax.lax.scan(step, (variables, optimizer.init(variables)), rng_keys)[1]

    start = jax.tree.map(lambda p: 0.5 * p, initialize(model))
    losses = np.asarray(train(start))
    assert np.log(length) < losses[-200:].mean() < np.log(length) + 0.2  # it did learn


@pytest.mark.parametrize(
    "fields",
    [
        slow(memory_mode="sample"),
        slow(memory_mode="distribution", diagonal=True),
        slow(addressing="least_squares", bottom_up=False, memory_mode="sample"),
        slow(addressing="pseudo_inverse", bottom_up=False, num_filters=2),
        slow(addressing="pseudo_inverse", bottom_up=False, diagonal=True),
        slow(likelihood="gaussian", num_filters=2, diagonal=True),
    ],
    ids=str,
)
def test_every_option_has_finite_values_and_gradients_everywhere(fields):
    shape = (8, 8, 1) if "num_filters" in fields else _SHAPE
    assert_every_parameter_learns(tiny(**fields).clone(image_shape=shape))


def test_the_prior_covariance_is_by_its_cholesky_factor():
    variables, params = initialize(tiny()), initialize(tiny())["params"]
    row_cov = apply(tiny(), variables, method="memory_prior").row_cov
    scales = np.exp(params["memory_log_scale"])
    factor = np.tril(params["memory_factor"], -1) + np.diag(scales)
    np.testing.assert_allclose(row_cov, factor @ factor.T, rtol=1e-5)
    np.testing.assert_array_equal(row_cov, row_cov.T)
    variances = apply(tiny(diagonal=True), variables, method="memory_prior").row_cov
    np.testing.assert_allclose(variances, scales**2, rtol=1e-5)


def test_first_values():
    """A key's weights are not all alike, the memory is nearly empty, noise is as named."""

    def draw(rng_key, **fields):
        model = KanervaMachine((2, 2, 1), num_filters=0, hidden_sizes=(4,), **fields)
        query, support = inputs(model)
        return model.init(rng_key, rng_key, query, support, method=one_query)["params"]

    @jax.jit
    def draw_both(rng_key):
        params = draw(rng_key)
        other = draw(rng_key, addressing="pseudo_inverse", bottom_up=False, noise_var=0.3)
        own = other["address_matrix"], other["noise_log_var"]
        return params["address_matrix"], params["memory_mean"], *own

    address_matrix, memory_mean, codes, log_var = draw_both(jax.random.key(0))
    assert address_matrix.shape == (64, 50) and memory_mean.shape == (64, 100)
    np.testing.assert_allclose(np.std(address_matrix), 1.0, atol=0.05)
    np.testing.assert_allclose(np.std(memory_mean), 0.1, atol=0.005)
    np.testing.assert_allclose(np.std(codes), 1 / 8, atol=0.005)
    np.testing.assert_allclose(log_var, np.log(0.3), rtol=1e-6)


def test_warm_up_scales_the_objective_and_not_the_metrics():
    model = tiny(kl_warmup_steps=4, kl_warmup_start=0.2, address_noise=0.0)
    variables, (query, _) = initialize(model), inputs(model)
    variables = variables | {"schedule": {"steps": np.zeros((), np.float32)}}

    @jax.jit
    def step(variables):
        memory = model.apply(variables, method="memory_prior")
        return model.apply(
            variables, jax.random.key(1), query, memory, train=True, mutable=["schedule"]
        )

    for scale in (0.2, 0.4, 0.6, 0.8, 1.0, 1.0):
        (objective, metrics), schedule = step(variables)
        kl = metrics["kl_address"] + metrics["kl_latent"]
        np.testing.assert_allclose(objective, -metrics["reconstruction"] - scale * kl, rtol=1e-5)
        np.testing.assert_allclose(metrics["nll"], metrics["reconstruction"] + kl, rtol=1e-5)
        variables = variables | schedule


@pytest.mark.slow
def test_what_is_written_is_read_and_pictured():
    model = tiny()
    variables, (query, support) = initialize(model), inputs(model)

    @jax.jit
    def draw(rng_key):
        bound = model.bind(variables)
        memory = bound.write(rng_key, support)
        read_weights = bound.weights(rng_key, query, memory)
        pictures = bound.explain(rng_key, query, memory) | {
            "by weights": bound.decode_weights(memory, read_weights),
            "generated": bound.generate(rng_key, memory),
            "of the prior": bound.generate(rng_key, bound.write(rng_key, None)),
        }
        found = bound.read(rng_key, query, memory), bound.read_at_random(rng_key, memory)
        return pictures, found, read_weights

    pictures, found, read_weights = draw(jax.random.key(0))
    for image in (*pictures.values(), *jax.tree.leaves(found)):
        assert image.shape == _SHAPE and np.all((image >= 0) & (image <= 1))
    for read in found:
        assert set(np.unique(read.sample)) <= {0.0, 1.0} and np.ptp(read.mean) > 0
    assert read_weights.shape == (3,)
    np.testing.assert_array_equal(pictures["generated"], found[1].mean)
    np.testing.assert_array_equal(pictures["reconstruction"], found[0].mean)


def test_a_reading_by_means_draws_nothing_and_one_by_modes_rounds_and_explains_the_image_better():
    model = tiny(likelihood="bernoulli")
    variables, (query, support) = initialize(model), inputs(model)

    @jax.jit
    def run(rng_key):
        bound = model.bind(variables)
        memory = bound.write(jax.random.key(0), support)
        found = {by: bound.read(rng_key, query, memory, by=by) for by in READINGS}
        pictured = bound.explain(rng_key, query, memory)["reconstruction"]
        posterior = bound._address_posterior(None, memory, bound.encode(rng_key, query).embedding)
        start, scale = posterior.mean, posterior.base_dist.scale
        top = bound._climb(memory, start, scale, query)

        def log_prob(address):
            likelihood = bound._decode(bound._latent_prior(memory, address).mean)
            return denoising.robust_log_prob(likelihood, query)

        steps = jnp.linalg.norm((top - start) / scale)
        return found, (log_prob(start), log_prob(top)), steps, pictured

    (found, (before, after), steps, pictured), (again, *_) = (
        run(jax.random.key(1)),
        run(jax.random.key(2)),
    )
    np.testing.assert_array_equal(pictured, found["samples"].mean)
    for by in ("means", "modes"):
        np.testing.assert_array_equal(found[by].mean, again[by].mean)
    np.testing.assert_array_equal(found["means"].sample, found["means"].mean)
    np.testing.assert_array_equal(found["modes"].sample, np.round(found["modes"].mean))
    assert np.any(found["samples"].mean != again["samples"].mean)
    assert after > before and 0 < steps < 20.01


def test_a_way_to_read_that_is_none_is_refused():
    model = tiny()
    bound = model.bind(initialize(model))
    with pytest.raises(UserError, match="by is 'mode'; it must be one of samples, means, modes"):
        bound.read(jax.random.key(0), inputs(model)[0], None, by="mode")


def test_denoising_adds_what_readings_by_means_say_of_the_image():
    model = tiny(denoising_weight=3.0, denoising_readings=2, kl_weight=0.25, address_noise=0.0)
    variables, (query, support) = initialize(model), inputs(model)

    @jax.jit
    def run(rng_key):
        bound = model.bind(variables)
        memory = bound.write(jax.random.key(0), support)
        first = denoising.corrupt(jax.random.split(rng_key, 3)[2], query)
        second = bound.read(rng_key, first, memory, by="means").mean
        third = bound.read(rng_key, second, memory, by="means").mean
        terms = [jnp.sum(jnp.log(query * p + (1 - query) * (1 - p))) for p in (second, third)]
        found = [bound(rng_key, query, memory, train=train) for train in (True, False)]
        return found, jnp.stack(terms)

    ((trained, metrics), (held_out, same)), terms = run(jax.random.key(1))
    bound = -metrics["reconstruction"] - 0.25 * (metrics["kl_address"] + metrics["kl_latent"])
    np.testing.assert_allclose(held_out, bound, rtol=1e-5)
    np.testing.assert_allclose(trained, bound + 3.0 * np.mean(terms), rtol=1e-5)
    np.testing.assert_allclose(metrics["nll"], same["nll"], rtol=1e-6)


def test_a_third_of_the_corrupted_images_each_are_blocks_noise_and_as_they_were():
    images = jax.jit(jax.vmap(denoising.corrupt, (0, None)))(
        jax.random.split(jax.random.key(0), 600), jnp.full((12, 7, 1), 0.5)
    )
    changed = np.asarray(jnp.sum(images != 0.5, axis=(1, 2, 3)))
    whites = np.asarray(jnp.sum(images == 1.0, axis=(1, 2, 3)))
    kept, block = changed == 0, (changed == 25) & (whites == 25)
    shares = kept.mean(), block.mean(), 1 - kept.mean() - block.mean()
    np.testing.assert_allclose(shares, [0.3, 0.35, 0.35], atol=0.06)
    assert abs(changed[~kept & ~block].mean() / 84 - 0.15) < 0.02


def test_a_pixel_that_is_noise_costs_no_more_than_noise_does():
    image, p = np.array([[[0.0], [1.0]]]), np.array([[[0.3], [1e-12]]])
    found = denoising.robust_log_prob(dist.Bernoulli(probs=p).to_event(3), image)
    np.testing.assert_allclose(found, np.log(0.8 * 0.7 + 0.1) + np.log(0.1), rtol=1e-5)
    found = denoising.robust_log_prob(dist.Normal(p, 0.1).to_event(3), image)
    density = scipy.stats.norm.pdf(image, p, 0.1)
    np.testing.assert_allclose(found, np.sum(np.log(0.8 * density + 0.2)), rtol=1e-5)
    image, p = np.tile(image, 3), np.tile(p, 3)
    pixels = distributions.channel_gaussian_image(p, np.full(3, -1.0), [0.9, 0.1, -0.5])
    factor = np.linalg.inv([[1, 0, 0], [-0.9, 1, 0], [-0.1, 0.5, 1]]) / np.e
    normal = scipy.stats.multivariate_normal(np.zeros(3), factor @ factor.T)
    expected = np.sum(np.log(0.8 * normal.pdf(image - p) + 0.2))
    np.testing.assert_allclose(denoising.robust_log_prob(pixels, image), expected, rtol=1e-5)


@pytest.mark.slow
def test_what_is_encoded_once_stands_for_its_images():
    """Given wherever images are, it gives what they give."""
    model = tiny()
    variables, (_, support) = initialize(model), inputs(model)

    @jax.jit
    def run(rng_key):
        bound = model.bind(variables)

        def everything(query, support):
            memory = bound.write(rng_key, support)
            given = rng_key, query, memory
            found = bound(*given, train=True), bound.read(*given), bound.weights(*given)
            return memory, found, bound.log_weights(*given, 2)

        encoded = bound.encode(rng_key, support, train=True)
        one = jax.tree.map(lambda leaf: leaf[1], encoded)
        return everything(support[1], support), everything(one, encoded)

    twice, once = run(jax.random.key(0))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), twice, once)


@pytest.mark.usefixtures("strict_ranks")
def test_colours_are_read_and_generated():
    model = tiny(likelihood="gaussian").clone(image_shape=(3, 2, 3))
    support = np.random.default_rng(0).uniform(size=(4, 3, 2, 3)).astype(np.float32)

    def everything(bound, rng_key):
        memory = bound.write(rng_key, support)
        given = rng_key, support[0], memory
        bound(*given, train=True)
        return bound.read(*given), bound.generate(rng_key, memory), bound.explain(*given)

    rng_key = jax.random.key(0)
    found, _ = jax.jit(lambda: model.init_with_output(rng_key, rng_key, method=everything))()
    for image in jax.tree.leaves(found):
        assert image.shape == (3, 2, 3) and np.isfinite(image).all() and np.std(image) > 0


def test_grey_levels_are_encoded_with_their_noise_in_training():
    model = tiny(likelihood="gaussian")
    variables, (query, _) = initialize(model), inputs(model)
    rng_key = jax.random.key(0)
    for train in (False, True):
        encoded = apply(model, variables, rng_key, query, train=train, method="encode")
        noise = encoded.image - query
        assert (noise.min() >= 0) and (noise.max() < 1 / 256) and np.any(noise > 0) == train
        again = apply(model, variables, rng_key, encoded.image, method="encode")
        np.testing.assert_allclose(encoded.embedding, again.embedding, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"memory_mode": "mode"}, "memory_mode is 'mode'; it must be one of mean, sample"),
        ({"addressing": "hard"}, "addressing is 'hard'; it must be one of key, least_squares"),
        (
            {"addressing": "least_squares"},
            "bottom_up is True; with addressing least_squares it must",
        ),
        (
            {"addressing": "pseudo_inverse", "bottom_up": False, "memory_mode": "distribution"},
            "memory_mode is distribution; with addressing pseudo_inverse it must be mean or sample",
        ),
        ({"likelihood": "beta"}, "likelihood is 'beta'; it must be one of bernoulli, gaussian"),
        ({"num_slots": 0}, "num_slots is 0; it must be at least 1"),
        ({"noise_var": 0.0}, "noise_var is 0.0; it must be above 0"),
        ({"address_noise": -1.0}, "address_noise is -1.0; it must not be negative"),
        ({"kl_weight": -1.0}, "kl_weight is -1.0; it must not be negative"),
        ({"denoising_weight": -1.0}, "denoising_weight is -1.0; it must not be negative"),
        ({"denoising_readings": 0}, "denoising_readings is 0; it must be at least 1"),
        ({"num_filters": 2}, "images are 3 x 3; the convolutions halve them 3 times"),
    ],
)
def test_bad_fields_are_refused(fields, message):
    assert_refused(tiny(**fields), message)
