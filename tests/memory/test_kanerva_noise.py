"""The Kanerva memory at any noise: small, zero, infinite, mixed; repeated and dependent weights."""

import dataclasses
import functools
from functools import partial

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import strategies

from memjax.memory import (
    _batch_form,
    _careful,
    _information_form,
    _sequential_form,
    kanerva,
    low_rank,
)
from memjax.memory.kanerva import KanervaState
from tests import oracles

_KINDS = ("distinct", "one", "four", "clusters", "collinear", "zeros")
_METHODS = ("batch", "information", "online")  # "auto" is one of them
_EPS = float(np.finfo(np.float32).eps)


def episode(kind, num_writes, num_slots, code_size, noise_var, *, seed=0, condition=1.0, misfit=0):
    """A prior, unit weights of a kind, codes that they explain but for noise, as float32.

    `misfit` is the standard deviation of what is added to the codes, and explained by nothing.
    """
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(num_writes, num_slots))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    repeated = rows[np.arange(num_writes) % (1 if kind == "one" else 4)]
    weights = {
        "distinct": rows,
        "one": repeated,
        "four": repeated,
        "clusters": repeated + 1e-3 * rows,
        "collinear": repeated * rng.uniform(0.2, 2.0, (num_writes, 1)),
        "zeros": rows * (np.arange(num_writes) % 2)[:, None],
    }[kind].astype(np.float32)
    basis, _ = np.linalg.qr(rng.normal(size=(num_slots, num_slots)))
    spectrum = np.geomspace(1.0, 1.0 / condition, num_slots)
    row_cov = np.eye(num_slots) if condition == 1.0 else (basis * spectrum) @ basis.T
    row_cov = row_cov.astype(np.float32)
    row_cov = np.tril(row_cov) + np.tril(row_cov, -1).T
    mean = rng.normal(size=(num_slots, code_size)).astype(np.float32)
    values, vectors = np.linalg.eigh(row_cov.astype(np.float64))
    root = vectors * np.sqrt(np.maximum(values, 0))
    truth = mean + root @ rng.normal(size=mean.shape)
    noise = np.broadcast_to(np.asarray(noise_var, np.float32), (num_writes,))
    finite = np.where(np.isfinite(noise), noise, 0.0)
    codes = weights @ truth + np.sqrt(finite)[:, None] * rng.normal(size=(num_writes, code_size))
    codes += misfit * rng.normal(size=codes.shape)
    memory = KanervaState(jnp.asarray(mean), jnp.asarray(row_cov))
    return memory, jnp.asarray(weights), jnp.asarray(codes, jnp.float32), jnp.asarray(noise)


# Compiled once for all tests: what is called eagerly is compiled piece by piece.
_compiled = jax.jit(kanerva.write, static_argnames="method")
write_prefix, read = jax.jit(kanerva.write_prefix), jax.jit(kanerva.read)
divergence = jax.jit(kanerva.kl_divergence)


def write(method, *arguments):
    return _compiled(*arguments, method=method)


def posterior(memory, *episode):
    """In float64: what `write` is to give."""
    return oracles.kanerva_posterior(memory.mean, memory.row_cov, *episode)[:2]


def assert_as_right_as_float32_allows(found, arguments):
    """The docstring of `kanerva.write`, in numbers."""
    memory = arguments[0]
    mean, row_cov, strength, unexplained = oracles.kanerva_posterior(
        memory.mean, memory.row_cov, *arguments[1:]
    )
    largest = np.max(np.abs(mean))
    allowed = max(1e-4 * largest, 2.0 * _EPS * strength * (largest + unexplained))
    assert np.max(np.abs(found.mean - mean)) <= allowed
    variance = np.max(np.diagonal(memory.row_cov))
    assert np.max(np.abs(found.row_cov - row_cov)) <= 1e-4 * variance
    np.testing.assert_array_equal(found.row_cov, found.row_cov.T)


@hypothesis.settings(max_examples=40, deadline=None)
@hypothesis.given(
    shape=strategies.sampled_from([(8, 32), (64, 16)]),
    kind=strategies.sampled_from(_KINDS),
    log_noise=strategies.floats(-6, 6),
    condition=strategies.sampled_from([1.0, 1e3, 1e6]),
    misfit=strategies.sampled_from([0.0, 0.0, 1.0]),
    mixed=strategies.booleans(),
    method=strategies.sampled_from(_METHODS),
    seed=strategies.integers(0, 1000),
)
def test_right_at_any_noise(shape, kind, log_noise, condition, misfit, mixed, method, seed):
    noise = 10.0**log_noise
    if mixed:
        noise = 10.0 ** np.random.default_rng(seed).uniform(-6, 6, shape[0])
    arguments = episode(kind, *shape, 3, noise, seed=seed, condition=condition, misfit=misfit)
    assert_as_right_as_float32_allows(write(method, *arguments), arguments)


@pytest.mark.parametrize("num_writes", [64, 256])
@pytest.mark.parametrize("method", _METHODS)
def test_right_where_the_prior_hardly_varies_along_the_weights(method, num_writes):
    """W' D^-1 W is large there, what it does to the prior small: a difference of large numbers."""
    for seed in range(8):
        for noise in (1.0, 0.1, 0.03, 0.01, 0.003):
            arguments = episode("one", num_writes, 16, 3, noise, seed=seed, condition=1e6)
            assert_as_right_as_float32_allows(write(method, *arguments), arguments)


@pytest.mark.parametrize("rank", [0, 1, 2])
@pytest.mark.parametrize("method", _METHODS)
def test_a_prior_may_be_singular(method, rank):
    """Of row_cov `[3, 3]`; at noise where plain forms would do."""
    _, weights, codes, noise = episode("distinct", 5, 3, 2, 1.0)
    factor = np.tril(np.ones((3, 3), np.float32))[:, :rank]
    memory = KanervaState(jnp.zeros((3, 2)), jnp.asarray(factor @ factor.T))
    arguments = memory, weights, codes, noise
    assert_as_right_as_float32_allows(write(method, *arguments), arguments)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(256, 64), (4096, 256), (40, 256)])
@pytest.mark.parametrize("kind", _KINDS)
def test_right_at_any_noise_for_large_shapes(shape, kind):
    for noise in (1e6, 1.0, 1e-2, 1e-4, 1e-6):
        for condition in (1.0, 1e6):
            for misfit in (0.0, 1.0):
                arguments = episode(kind, *shape, 3, noise, condition=condition, misfit=misfit)
                found = write("auto", *arguments)
                assert_as_right_as_float32_allows(found, arguments)


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("method", _METHODS)
@pytest.mark.parametrize("shape", [(8, 32), (64, 16)])
def test_no_noise_is_the_limit_of_small_noise(kind, method, shape):
    memory, weights, codes, _ = arguments = episode(kind, *shape, 3, 0.0)
    found = write(method, *arguments)
    shift, projection = oracles.exact_posterior(memory.mean, weights, codes)
    np.testing.assert_allclose(found.mean, shift, atol=1e-2)
    np.testing.assert_allclose(found.row_cov, projection, atol=3e-3)
    _, var = read(found, weights)
    assert np.all(var >= 0)
    np.testing.assert_allclose(weights @ found.mean, codes, atol=2e-3)


def test_codes_that_contradict_each_other_are_averaged():
    weights = jnp.tile(jnp.array([[0.6, 0.8, 0.0]]), (4, 1))
    codes = jnp.array([[1.0], [2.0], [3.0], [6.0]])
    for method in _METHODS:
        for noise in (1e-6, 0.0):
            found = write(method, kanerva.prior(3, 1), weights, codes, jnp.full(4, noise))
            np.testing.assert_allclose(weights @ found.mean, 3.0, rtol=1e-4)


@pytest.mark.parametrize("method", _METHODS)
def test_infinite_noise_writes_nothing(method):
    memory, weights, codes, _ = episode("distinct", 6, 4, 2, 0.1)
    noise = jnp.array([0.1, jnp.inf, 0.2, jnp.inf, 1e-6, 0.3])
    kept = np.array([0, 2, 4, 5])
    found = write(method, memory, weights, codes, noise)
    mean, row_cov = posterior(memory, weights[kept], codes[kept], noise[kept])
    np.testing.assert_allclose(found.mean, mean, atol=1e-4)
    np.testing.assert_allclose(found.row_cov, row_cov, atol=1e-5)


@pytest.mark.parametrize("method", _METHODS)
def test_a_batch_is_as_right_as_each_of_it_alone(method):
    """`vmap` takes the careful way for all where one of them needs it."""
    noises = jnp.array([1.0, 1e-6, 0.0, 1e3])
    memory, weights, codes, _ = episode("four", 8, 32, 3, 1e-3)

    def one(noise, codes):
        return kanerva.write(memory, weights, codes, jnp.full(8, noise), method=method)

    @jax.jit
    def mapped(noises, codes):
        nested = jax.vmap(jax.vmap(one, (0, None)), (None, 0))(noises, codes[None])
        return jax.vmap(one, (0, None))(noises, codes), jax.tree.map(lambda x: x[0], nested)

    for found in mapped(noises, codes):
        for i, noise in enumerate(noises):
            alone = write(method, memory, weights, codes, jnp.full(8, noise))
            np.testing.assert_allclose(found.mean[i], alone.mean, atol=1e-4)
            np.testing.assert_allclose(found.row_cov[i], alone.row_cov, atol=1e-5)


@pytest.mark.parametrize("method", [*_METHODS, "prefix"])
def test_the_slower_form_runs_only_where_it_is_needed(method, monkeypatch):
    careful = _careful.condition
    monkeypatch.setattr(
        _careful, "condition", lambda *a: jax.tree.map(lambda leaf: jnp.nan * leaf, careful(*a))
    )
    memory, weights, codes, _ = episode("four", 7, 11, 5, 0.1)  # a shape of its own: JAX caches

    @jax.jit
    def any_nan(noise):
        arguments = memory, weights, codes, jnp.full(7, noise)
        if method == "prefix":
            return jnp.any(jnp.isnan(kanerva.write_prefix(*arguments).mean))
        return jnp.any(jnp.isnan(kanerva.write(*arguments, method=method).mean))

    assert [bool(any_nan(noise)) for noise in (100.0, 1.0, 0.1, 1e-4)] == [False] * 3 + [True]


def test_a_plain_form_is_right_up_to_its_bound(monkeypatch):
    """Rounding times the largest eigenvalue, or what bounds it, of what is added to I or S / D."""
    monkeypatch.setattr(_careful, "choose", lambda is_plain, *rest: is_plain)
    weights = jnp.array([[1.0, 0.5], [0.5, 2.0], [0.2, 0.4]])
    row_cov, ratios = jnp.diag(jnp.array([4.0, 1.0])), jnp.array([1.0, 4.0, 0.25])
    scaled = weights / jnp.sqrt(ratios)[:, None]
    whole = scaled @ jnp.diag(jnp.array([2.0, 1.0]))
    sizes = {
        _batch_form: np.abs(whole @ whole.T).sum(axis=1).max(),
        _information_form: 4.0 * np.abs(scaled.T @ scaled).sum(axis=1).max() * 4.0,
        _sequential_form: 10.0 * np.square(whole).sum(axis=1).max(),
    }
    for form, size in sizes.items():
        for excess in (0.95, 1.05):
            noise = excess * ratios * _EPS * size / _careful.ACCURACY
            arguments = jnp.zeros((2, 3)), row_cov, weights, jnp.zeros((3, 3)), noise
            if form is _sequential_form:
                found = form.condition(*arguments)
            else:
                found = form._solution(*([None] * (form is _information_form)), *arguments)
            assert bool(found) == (excess > 1.0), form


@pytest.mark.slow
def test_an_eager_call_compiles_nothing_that_an_earlier_one_compiled(caplog):
    arguments = episode("distinct", 3, 4, 2, 0.1)
    calls = [partial(kanerva.write, *arguments, method=method) for method in _METHODS]
    calls += [partial(kanerva.write_prefix, *arguments)]
    for call in calls:
        call()
    with jax.log_compiles(), caplog.at_level("WARNING", logger="jax"):
        for call in calls:
            call()
    assert not [record for record in caplog.records if "ompil" in record.getMessage()]


def _plain(mean, row_cov, weights, codes, noise):
    """Eqs. 9-11 as written."""
    cross_cov = weights @ row_cov
    gain = jnp.linalg.solve(cross_cov @ weights.T + jnp.diag(noise), cross_cov).T
    return mean + gain @ (codes - weights @ mean), row_cov - gain @ cross_cov


def _scalar(function, *arguments):
    mean, row_cov = function(*arguments)
    twist = np.random.default_rng(5).normal(size=row_cov.shape)
    return jnp.sum(jnp.sin(mean)) + jnp.sum(jnp.asarray(twist, row_cov.dtype) * row_cov)


_exact_gradient = jax.jit(jax.grad(partial(_scalar, _plain), range(5)))


@functools.cache
def _gradient(method):
    def ours(mean, row_cov, *episode):
        after = kanerva.write(KanervaState(mean, row_cov), *episode, method=method)
        return after.mean, after.row_cov

    return jax.jit(jax.grad(partial(_scalar, ours), range(5)))


@pytest.mark.parametrize(("shape", "method"), [((6, 9), "batch"), ((20, 7), "information")])
@pytest.mark.parametrize("kind", ["distinct", "four"])
def test_gradients_at_small_noise(shape, method, kind):
    """Those of float64 for the same numbers, but for what rounding the weights would do."""
    for noise in (1.0, 1e-3, 1e-5):
        memory, *rest = episode(kind, *shape, 2, noise)
        arguments = (memory.mean, memory.row_cov, *rest)
        found = _gradient(method)(*arguments)
        with jax.enable_x64(True):
            expected = _exact_gradient(*(jnp.asarray(a, jnp.float64) for a in arguments))
        expected = [np.asarray(leaf) for leaf in expected]
        symmetric = 0.5 * (expected[1] + expected[1].T)
        for a, b in zip(found, [expected[0], symmetric, *expected[2:]], strict=True):
            tolerance = max(1e-4, 100 * _EPS * (shape[0] / noise) ** 0.5)
            np.testing.assert_allclose(a, b, atol=tolerance * np.max(np.abs(b)))


@pytest.mark.parametrize("method", _METHODS)
def test_gradients_without_noise_are_finite(method):
    @jax.jit
    @partial(jax.grad, argnums=(1, 2))
    def gradient(memory, weights, codes, noise):
        return jnp.sum(kanerva.write(memory, weights, codes, noise, method=method).mean)

    for kind in ("distinct", "four"):
        found = gradient(*episode(kind, 3, 6, 2, 0.0))
        assert all(np.all(np.isfinite(leaf)) for leaf in found)


@pytest.mark.parametrize("noise", [1.0, 1e-5, 0.0])
def test_prefixes(noise):
    """Each is the posterior after so many writes."""
    arguments = episode("four", 9, 5, 2, noise)
    found = write_prefix(*arguments)
    memory, weights, codes, noises = arguments
    for t in range(9):
        upto = slice(t + 1)
        mean, row_cov = posterior(
            memory, weights[upto], codes[upto], np.maximum(noises[upto], 1e-8)
        )
        np.testing.assert_allclose(found.mean[t], mean, atol=2e-4)
        np.testing.assert_allclose(found.row_cov[t], row_cov, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.3, 1e-3])
def test_derivatives_of_prefixes(float64, noise):
    memory, weights, codes, noises = episode("distinct", 4, 3, 2, noise)
    arguments = [
        jnp.asarray(a, jnp.float64) for a in (*dataclasses.astuple(memory), weights, codes, noises)
    ]

    def each(mean, row_cov, weights, codes, noises):
        row_cov = 0.5 * (row_cov + row_cov.T)
        states = [
            _plain(mean, row_cov, weights[: t + 1], codes[: t + 1], noises[: t + 1])
            for t in range(4)
        ]
        return tuple(jnp.stack(leaves) for leaves in zip(*states, strict=True))

    def ours(mean, row_cov, *rest):
        after = kanerva.write_prefix(KanervaState(mean, row_cov), *rest)
        return after.mean, after.row_cov

    @partial(jax.jit, static_argnums=(0, 1))
    def derivatives(function, modes, *arguments):
        def slope(codes):
            inner = jax.grad(partial(_scalar, function), 3)
            return jnp.sum(inner(*arguments[:3], codes, arguments[4]) ** 2)

        first = [mode(partial(_scalar, function), range(5))(*arguments) for mode in modes]
        return first, jax.grad(slope)(arguments[3])

    both, found_curvature = derivatives(ours, (jax.grad, jax.jacfwd), *arguments)
    (expected,), curvature = derivatives(each, (jax.grad,), *arguments)
    for found in both:
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8 * np.max(np.abs(b)))
    np.testing.assert_allclose(found_curvature, curvature, rtol=1e-5, atol=1e-7)


# ------------------------------------------------------------------- what comes after such a write


@pytest.fixture(params=[0.0, 1e-6])
def nearly_exact(request):
    """A memory that three of six directions were written into, and the write."""
    memory = kanerva.prior(6, 2)
    _, weights, codes, noise = episode("distinct", 3, 6, 2, request.param)
    return write("auto", memory, weights, codes, noise), weights, codes, noise


def test_variance_is_not_negative(nearly_exact):
    memory, weights, codes, noise = nearly_exact
    _, var = read(memory, weights)
    assert np.all(var >= 0) and np.all(var < 1e-5)
    diagonal = write("auto", kanerva.prior(6, 2, diagonal=True), weights, codes, noise)
    assert np.all(diagonal.row_cov >= 0)
    # Slots that are each written exactly: rounding alone would leave some below 0.
    variances, scales = np.random.default_rng(0).uniform(0.2, 2.0, (2, 64)).astype(np.float32)
    slots = KanervaState(jnp.zeros((64, 1)), jnp.asarray(variances))
    found = write("online", slots, jnp.diag(scales), jnp.ones((64, 1)), jnp.zeros(64))
    assert np.all(found.row_cov >= 0) and np.all(found.row_cov < 1e-6)


@jax.jit
def _draw(memory):
    keys = jax.random.split(jax.random.key(0), 10_000)
    draws = jax.vmap(partial(kanerva.sample, memory=memory))(keys)
    return draws, jax.grad(lambda m: jnp.sum(kanerva.sample(keys[0], m)))(memory)


def test_samples_have_the_semidefinite_covariance(nearly_exact):
    memory, weights, codes, _ = nearly_exact
    draws, gradient = jax.tree.map(np.asarray, _draw(memory))
    assert np.all(np.isfinite(draws))
    # What is known is known but for the square root of rounding.
    found = np.asarray(weights) @ draws
    np.testing.assert_allclose(found, np.broadcast_to(codes, found.shape), atol=1e-2)
    centred = draws - memory.mean
    covariance = np.einsum("kna,kma->nm", centred, centred) / 20_000  # errors of 0.01
    np.testing.assert_allclose(covariance, memory.row_cov, atol=0.04)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


def test_divergence_is_infinite_where_one_knows_exactly_what_the_other_does_not():
    prior = kanerva.prior(6, 2)
    _, weights, codes, _ = episode("distinct", 4, 6, 2, 0.0)
    exact = write("auto", prior, weights[:3], codes[:3], jnp.zeros(3))
    assert divergence(exact, prior) == np.inf
    assert divergence(prior, exact) == np.inf
    assert abs(divergence(exact, exact)) < 1e-3
    further = write("auto", exact, weights[3:], codes[3:], jnp.full(1, 0.5))
    assert np.isfinite(divergence(further, exact))
    moved = dataclasses.replace(exact, mean=exact.mean + 1.0)
    assert divergence(moved, exact) == np.inf
    # The same further write costs as much where only the directions that are left exist.
    free = np.linalg.svd(np.asarray(weights[:3]))[2][3:]
    before = KanervaState(free @ exact.mean, np.eye(3))
    known = weights[3:] @ (exact.mean - free.T @ free @ exact.mean)
    mean, row_cov = posterior(before, weights[3:] @ free.T, codes[3:] - known, 0.5)
    dense = np.ravel(mean), np.kron(row_cov, np.eye(2)), np.ravel(before.mean), np.eye(6)
    expected = oracles.gaussian_kl(*dense)
    np.testing.assert_allclose(divergence(further, exact), expected, rtol=1e-3)


def test_divergence_of_diagonal_memories_that_know_something_exactly():
    known = KanervaState(jnp.zeros((2, 3)), jnp.array([0.0, 1.0]))
    open_ = KanervaState(jnp.zeros((2, 3)), jnp.array([1.0, 1.0]))
    assert divergence(known, open_) == np.inf
    assert divergence(open_, known) == np.inf
    assert divergence(known, known) == 0
    moved = dataclasses.replace(known, mean=known.mean.at[0, 0].set(1.0))
    assert divergence(moved, known) == np.inf


@pytest.mark.parametrize("method", ["auto", "online"])
def test_a_second_write(nearly_exact, method):
    memory, weights, codes, noise = nearly_exact
    _, more, more_codes, _ = episode("distinct", 4, 6, 2, 0.1, seed=3)
    found = write(method, memory, more, more_codes, jnp.full(4, 0.1))
    noises = jnp.concatenate([jnp.maximum(noise, 1e-8), jnp.full(4, 0.1)])
    every = jnp.concatenate([weights, more]), jnp.concatenate([codes, more_codes]), noises
    mean, row_cov = posterior(kanerva.prior(6, 2), *every)
    np.testing.assert_allclose(found.mean, mean, atol=2e-4)
    np.testing.assert_allclose(found.row_cov, row_cov, atol=1e-5)
    # Said again, it changes nothing.
    again = write(method, memory, weights, codes, jnp.full(3, 1e-3))
    np.testing.assert_allclose(again.mean, memory.mean, atol=1e-3)


# -------------------------------------------------------------------------------- the other members


@jax.jit
def _write_low_rank(weights, codes, noises):
    memory = low_rank.write(low_rank.prior(6, 2, 7), weights, codes, noises)
    return low_rank.to_dense(memory), low_rank.read(memory, weights)[1]


@pytest.mark.parametrize("noise", [0.5, 1e-4, 1e-6, 0.0])
@pytest.mark.parametrize("kind", ["distinct", "four", "collinear"])
def test_low_rank_writes(noise, kind):
    _, weights, codes, noises = episode(kind, 7, 6, 2, noise)
    found, var = _write_low_rank(weights, codes, noises)
    arguments = (kanerva.prior(6, 2), weights, codes, jnp.maximum(noises, 2e-9))
    expected = oracles.kanerva_posterior(np.zeros((6, 2)), np.eye(6), *arguments[1:])
    np.testing.assert_allclose(found.mean, expected[0], atol=2e-3)
    np.testing.assert_allclose(found.row_cov, expected[1], atol=1e-4)
    assert np.all(var >= 0)


@pytest.mark.parametrize(("num_slots", "code_size"), [(3, 7), (7, 3)])
def test_least_squares_at_small_noise(num_slots, code_size):
    rng = np.random.default_rng(0)
    mean = rng.normal(size=(num_slots, code_size)).astype(np.float32)
    mean[1] = mean[0]
    codes = (rng.normal(size=(5, num_slots)) @ mean).astype(np.float32)
    memory = KanervaState(jnp.asarray(mean), jnp.eye(num_slots))
    solve = jax.jit(kanerva.least_squares_weights)
    for noise in (1.0, 1e-4, 0.0):
        found = solve(memory, codes, jnp.float32(noise), jnp.float32(2.0))
        gram = mean.astype(np.float64) @ mean.T.astype(np.float64)
        ridge = gram + noise / 2.0 * np.eye(num_slots)
        expected = np.linalg.lstsq(ridge, mean.astype(np.float64) @ codes.T, rcond=1e-10)[0].T
        np.testing.assert_allclose(found, expected, atol=1e-3)


@jax.jit
def _predict_and_write(memory, weight, code, noise):
    return kanerva.read(memory, weight, noise), kanerva.write(
        memory, weight[None], code[None], noise
    )


@pytest.mark.parametrize("num_writes", [3, 7])
def test_evidence_is_the_density_of_the_codes(float64, num_writes):
    memory, weights, codes, noise = jax.tree.map(
        lambda leaf: jnp.asarray(leaf, jnp.float64),
        episode("distinct", num_writes, 5, 2, 0.3, condition=10.0),
    )
    found = jax.jit(kanerva.log_evidence)(memory, weights, codes, noise)
    cov = np.asarray(weights @ memory.row_cov @ weights.T) + np.diag(noise)
    residual = np.asarray(codes - weights @ memory.mean)
    expected = scipy.stats.multivariate_normal(cov=cov).logpdf(residual.T).sum()
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    # By the chain rule, each code is predicted from those before it.
    total = 0.0
    for weight, code, own_noise in zip(weights, codes, noise, strict=True):
        (mean, var), memory = _predict_and_write(memory, weight, code, own_noise)
        total += scipy.stats.norm.logpdf(code, mean, np.sqrt(var)).sum()
    np.testing.assert_allclose(found, total, rtol=1e-9)


def _plain_evidence(mean, row_cov, weights, codes, noise):
    cov = weights @ (0.5 * (row_cov + row_cov.T)) @ weights.T + jnp.diag(noise)
    residual = codes - weights @ mean
    misfit = jnp.sum(residual * jnp.linalg.solve(cov, residual))
    return -0.5 * (misfit + codes.shape[1] * jnp.linalg.slogdet(2 * jnp.pi * cov)[1])


def _evidence(mean, row_cov, *episode):
    return kanerva.log_evidence(KanervaState(mean, row_cov), *episode)


_exact_evidence, _found_evidence = (
    jax.jit(jax.value_and_grad(function, range(5))) for function in (_plain_evidence, _evidence)
)


@pytest.mark.parametrize("shape", [(5, 8), (12, 5)])
@pytest.mark.parametrize("kind", ["distinct", "four"])
def test_evidence_and_its_gradient_at_small_noise(shape, kind):
    for noise in (1.0, 1e-3, 1e-5):
        memory, *rest = episode(kind, *shape, 2, noise)
        arguments = (memory.mean, memory.row_cov, *rest)
        value, found = _found_evidence(*arguments)
        with jax.enable_x64(True):
            expected_value, expected = _exact_evidence(
                *(jnp.asarray(a, jnp.float64) for a in arguments)
            )
        np.testing.assert_allclose(value, expected_value, rtol=1e-3)
        for a, b in zip(found, expected, strict=True):
            tolerance = max(1e-3, 5 * _EPS / noise)
            np.testing.assert_allclose(a, b, atol=tolerance * np.max(np.abs(b)))


@pytest.mark.parametrize("shape", [(3, 5), (9, 5)])
def test_erase_takes_a_write_back(float64, shape):
    memory, weights, codes, noise = jax.tree.map(
        lambda leaf: jnp.asarray(leaf, jnp.float64),
        episode("distinct", *shape, 2, 0.1, condition=10.0),
    )
    _, others, other_codes, _ = episode("distinct", 2, shape[1], 2, 0.1, seed=4)
    others, other_codes = (jnp.asarray(leaf, jnp.float64) for leaf in (others, other_codes))
    erase, more = jax.jit(kanerva.erase), (others, other_codes, jnp.full(2, 0.4))
    written = write("auto", memory, weights, codes, noise)
    both = write("auto", written, *more)
    for before, after in ((written, memory), (both, write("auto", memory, *more))):
        found = erase(before, weights, codes, noise)
        np.testing.assert_allclose(found.mean, after.mean, rtol=1e-8, atol=1e-9)
        np.testing.assert_allclose(found.row_cov, after.row_cov, rtol=1e-8, atol=1e-9)
    never = erase(memory, weights, codes, jnp.full(shape[0], 1e-3))
    assert np.all(np.isnan(never.row_cov))


def test_erase_in_float32():
    memory, weights, codes, noise = episode("distinct", 4, 8, 2, 0.1)
    written = write("auto", memory, weights, codes, noise)
    found = jax.jit(kanerva.erase)(written, weights, codes, noise)
    np.testing.assert_allclose(found.mean, memory.mean, atol=1e-4)
    np.testing.assert_allclose(found.row_cov, memory.row_cov, atol=1e-4)


def test_what_can_not_be_is_refused():
    memory, weights, codes, _ = episode("distinct", 4, 3, 2, 0.1)
    with pytest.raises(ValueError, match=r"noise_var is 0\.0; it must be positive"):
        kanerva.log_evidence(memory, weights, codes, 0.0)
    as_many = jax.jit(lambda w, z: kanerva.log_evidence(memory, w, z, 0.0))(weights[:3], codes[:3])
    assert np.isfinite(as_many)
    with pytest.raises(ValueError, match="noise_var is 0; it must be positive"):
        kanerva.erase(memory, weights, codes, 0)
    with pytest.raises(ValueError, match=r"memory.row_cov is \(3,\); it must be \[N, N\]"):
        kanerva.erase(kanerva.prior(3, 2, diagonal=True), weights, codes, 1.0)
