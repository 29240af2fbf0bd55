import dataclasses
import re
from functools import partial

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies

from memjax.memory import _batch_form, _careful, _information_form, conditioning, kanerva
from memjax.memory.kanerva import KanervaState
from tests import oracles

_METHODS = ("batch", "information", "online")  # "auto" is one of them
_SHAPES = [(1, 4, 3), (6, 1, 2), (3, 7, 2)]

# Compiled once for all tests: what is called eagerly is compiled piece by piece.
_write = jax.jit(kanerva.write, static_argnames="method")
_read = jax.jit(kanerva.read)
_sample = jax.jit(jax.vmap(kanerva.sample, (0, None)))


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def episode(num_writes, num_slots, code_size, seed=0, dtype=np.float64):
    """A memory with correlated rows, write weights, codes, and a noise variance for each write."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(num_slots, num_slots))
    row_cov = root @ root.T / num_slots + 0.3 * np.eye(num_slots)
    mean = rng.normal(size=(num_slots, code_size))
    memory = KanervaState(jnp.asarray(mean, dtype), jnp.asarray(row_cov, dtype))
    weights = jnp.asarray(rng.normal(size=(num_writes, num_slots)), dtype)
    codes = jnp.asarray(rng.normal(size=(num_writes, code_size)), dtype)
    return memory, weights, codes, jnp.asarray(rng.uniform(0.2, 2.0, num_writes), dtype)


def as_dense(memory):
    code_size = memory.mean.shape[1]
    return np.asarray(memory.mean), np.kron(np.asarray(memory.row_cov), np.eye(code_size))


@pytest.mark.parametrize("method", _METHODS)
@pytest.mark.parametrize("shape", _SHAPES)
def test_write_is_dense_gaussian_conditioning(x64, method, shape):
    memory, weights, codes, noise_vars = episode(*shape)
    found = as_dense(_write(memory, weights, codes, noise_vars, method=method))
    expected = oracles.matrix_posterior(memory.mean, memory.row_cov, weights, codes, noise_vars)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(("shape", "method"), [((3, 7, 2), "batch"), ((9, 3, 2), "information")])
def test_auto_is_the_form_that_is_cheaper_there(x64, shape, method):
    programs = [
        str(jax.make_jaxpr(partial(kanerva.write, method=m))(*episode(*shape)))
        for m in ("auto", method)
    ]
    first, second = (
        re.sub("0x[0-9a-f]+", "", program) for program in programs
    )  # places of objects
    assert first == second


def test_operations_are_counted():
    """T = 4, N = 3, C = 5: the sums of the formulas' terms, by hand."""
    assert conditioning.operations((4, 3), (3, 5)) == {
        "batch": 12 * (30 + 15) + 16 * (15 + 10) + 21,
        "information": 12 * (6 + 20) + 270 + 216,
    }


def test_a_method_is_the_form_of_its_name(monkeypatch):
    """All give the same: which one ran does not show in what it found."""
    monkeypatch.setattr(_batch_form, "condition", lambda *given: ("batch", given))
    monkeypatch.setattr(_information_form, "condition", lambda *given: ("information", given))
    monkeypatch.setattr(conditioning, "_online", lambda *given: ("online", given))
    for method in _METHODS:
        axis = ("devices",) if method == "information" else ()
        found = conditioning.condition(method, "devices", 1, 2, 3, 4, 5)
        assert found == (method, (*axis, 1, 2, 3, 4, 5))


def test_one_noise_is_as_much_for_each_write(x64):
    memory, weights, codes, _ = episode(3, 7, 2)
    found = _write(memory, weights, codes, 0.7, method="batch")
    expected = _write(memory, weights, codes, jnp.full(3, 0.7), method="batch")
    for name, leaf in vars(found).items():
        np.testing.assert_allclose(leaf, getattr(expected, name), rtol=1e-12)


def _plain(mean, row_cov, weights, codes, noise_vars):
    """Eqs. 9-11 as written, with an explicit inverse."""
    row_cov = 0.5 * (row_cov + row_cov.T)
    cross_cov = weights @ row_cov
    inverse = jnp.linalg.inv(cross_cov @ weights.T + jnp.diag(noise_vars))
    return (
        mean + cross_cov.T @ inverse @ (codes - weights @ mean),
        row_cov - cross_cov.T @ inverse @ cross_cov,
    )


def _written(method):
    def write(mean, row_cov, *episode):
        posterior = kanerva.write(KanervaState(mean, row_cov), *episode, method=method)
        return posterior.mean, posterior.row_cov

    return write


@partial(jax.jit, static_argnums=(0, 1))
def _derivatives(function, modes, *arguments):
    """Of a scalar of both results by each mode, and of its gradient's square."""

    def scalar(*arguments):
        mean, row_cov = function(*arguments)
        twist = jnp.arange(row_cov.size, dtype=row_cov.dtype).reshape(row_cov.shape)
        return jnp.sum(jnp.sin(mean)) + jnp.sum(jnp.cos(row_cov) * twist)

    def slope(*arguments):
        return sum(jnp.sum(leaf**2) for leaf in jax.grad(scalar, range(5))(*arguments))

    return [mode(scalar, range(5))(*arguments) for mode in modes] + [
        jax.grad(slope, range(5))(*arguments)
    ]


@pytest.mark.parametrize(
    "method",
    [
        *_METHODS,
        "batch carefully",
        pytest.param("information carefully", marks=pytest.mark.slow),
    ],
)
def test_gradients_are_those_of_the_plain_formula(x64, method, monkeypatch):
    """In both modes, and twice; of the careful form, as if the noise were small, too."""
    method, *carefully = method.split()
    if carefully:
        monkeypatch.setattr(_careful, "ACCURACY", 0.0)
    memory, *rest = episode(3, 5, 2)
    arguments = (memory.mean, memory.row_cov, *rest)
    expected, curvature = _derivatives(_plain, (jax.grad,), *arguments)
    *both, second = _derivatives(_written(method), (jax.grad, jax.jacfwd), *arguments)
    for found in both:
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-9)
    second = list(second)
    second[1] = 0.5 * (second[1] + second[1].T)  # a covariance has no other directions
    for a, b in zip(second, curvature, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-8 * np.max(np.abs(b)))


@pytest.mark.parametrize("method", _METHODS)
def test_float32_is_close_and_exactly_symmetric(method):
    memory, weights, codes, noise_vars = episode(40, 16, 8, dtype=np.float32)
    posterior = _write(memory, weights, codes, noise_vars, method=method)
    expected = oracles.matrix_posterior(memory.mean, memory.row_cov, weights, codes, noise_vars)
    np.testing.assert_allclose(posterior.mean, expected[0], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(as_dense(posterior)[1], expected[1], rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(posterior.row_cov, posterior.row_cov.T)
    assert posterior.mean.dtype == posterior.row_cov.dtype == jnp.float32


@hypothesis.settings(max_examples=12, deadline=None)
@hypothesis.given(
    method=strategies.sampled_from(_METHODS),
    order=strategies.permutations(range(3)),
    seed=strategies.integers(0, 10**6),
)
def test_writes_commute_and_parts_are_a_whole(method, order, seed):
    with jax.enable_x64(True):
        memory, *writes = episode(3, 7, 2, seed=seed)
        write = partial(_write, method=method)
        whole = write(memory, *writes)
        permuted = write(memory, *(array[np.array(order)] for array in writes))
        parts = memory
        for t in range(3):
            parts = write(parts, *(array[t : t + 1] for array in writes))
        for other in (permuted, parts):
            np.testing.assert_allclose(other.mean, whole.mean, rtol=1e-7, atol=1e-8)
            np.testing.assert_allclose(other.row_cov, whole.row_cov, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("method", _METHODS)
def test_variance_never_rises_and_what_was_written_is_read(x64, method):
    memory, weights, codes, _ = episode(4, 6, 3)
    posterior = _write(memory, weights, codes, jnp.full(4, 1e-8), method=method)
    directions = np.random.default_rng(1).normal(size=(50, 6))
    _, before = _read(memory, directions)
    _, after = _read(posterior, directions)
    assert np.all(after <= before + 1e-12)
    read, var = _read(posterior, weights)
    np.testing.assert_allclose(read, codes, atol=1e-5)
    np.testing.assert_allclose(var, 0, atol=1e-7)


@pytest.mark.parametrize("method", ["batch", "online"])
def test_no_noise_at_all(x64, method):
    memory, weights, codes, _ = episode(3, 6, 2)
    posterior = _write(memory, weights, codes, jnp.zeros(3), method=method)
    np.testing.assert_allclose(weights @ posterior.mean, codes, atol=1e-9)
    gradient = jax.jit(
        jax.grad(
            lambda z: _written(method)(*vars(memory).values(), weights, z, jnp.zeros(3))[0].sum()
        )
    )
    assert np.all(np.isfinite(gradient(codes)))


@pytest.mark.slow
@pytest.mark.parametrize("condition", [1.0, 1e3, 1e6])
def test_100_000_online_writes_keep_the_covariance_positive_definite(condition):
    rng = np.random.default_rng(0)
    assert_stays_positive_definite(rng, condition, num_calls=100, num_writes=1_000)


@pytest.mark.parametrize("condition", [1.0, 1e6])
def test_online_writes_keep_the_covariance_positive_definite(condition):
    assert_stays_positive_definite(np.random.default_rng(0), condition, 5, 1_000)


def assert_stays_positive_definite(rng, condition, num_calls, num_writes):
    num_slots = 16
    basis, _ = np.linalg.qr(rng.normal(size=(num_slots, num_slots)))
    eigenvalues = np.geomspace(1.0, 1.0 / condition, num_slots)
    row_cov = jnp.asarray((basis * eigenvalues) @ basis.T, jnp.float32)
    memory = KanervaState(jnp.zeros((num_slots, 2)), 0.5 * (row_cov + row_cov.T))
    write = partial(_write, method="online")
    for _ in range(num_calls):
        weights = jnp.asarray(rng.normal(size=(num_writes, num_slots)), jnp.float32)
        memory = write(memory, weights, jnp.ones((num_writes, 2)), 1.0)
        np.testing.assert_array_equal(memory.row_cov, memory.row_cov.T)
        assert np.linalg.eigvalsh(np.asarray(memory.row_cov, np.float64)).min() > 0


@pytest.mark.parametrize(
    ("shape", "diagonal"), [*((shape, False) for shape in _SHAPES), ((3, 7, 2), True)]
)
def test_prefixes_are_the_posteriors_after_each_write(x64, shape, diagonal):
    memory, weights, codes, noise_vars = episode(*shape)
    row_cov = memory.row_cov
    if diagonal:
        memory = dataclasses.replace(memory, row_cov=jnp.diagonal(row_cov))
        row_cov = np.diag(memory.row_cov)
    prefixes = jax.jit(kanerva.write_prefix)(memory, weights, codes, noise_vars)
    for t in range(shape[0]):
        writes = weights[: t + 1], codes[: t + 1], noise_vars[: t + 1]
        mean, cov, *_ = oracles.kanerva_posterior(memory.mean, row_cov, *writes)
        np.testing.assert_allclose(prefixes.mean[t], mean, rtol=1e-8, atol=1e-9)
        cov = np.diagonal(cov) if diagonal else cov
        np.testing.assert_allclose(prefixes.row_cov[t], cov, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("method", _METHODS)
def test_the_diagonal_variant_projects_the_full_posterior(x64, method):
    memory, weights, codes, noise_vars = episode(5, 4, 3)
    diagonal = dataclasses.replace(memory, row_cov=jnp.diagonal(memory.row_cov))
    found = _write(diagonal, weights, codes, noise_vars, method=method)
    mean, variances = memory.mean, diagonal.row_cov
    parts = [slice(t, t + 1) for t in range(5)] if method == "online" else [slice(None)]
    for part in parts:
        writes = weights[part], codes[part], noise_vars[part]
        mean, cov, *_ = oracles.kanerva_posterior(mean, np.diag(variances), *writes)
        variances = np.diagonal(cov)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-9)
    np.testing.assert_allclose(found.row_cov, variances, rtol=1e-9)


@pytest.mark.parametrize("diagonal", [False, True])
def test_samples_are_a_matrix_normals(x64, diagonal):
    """Their covariance is U kron I, and a read's distribution is that of what samples hold."""
    memory, weights, *_ = episode(3, 3, 2)
    if diagonal:
        memory = dataclasses.replace(memory, row_cov=jnp.diagonal(memory.row_cov))
    samples = _sample(jax.random.split(jax.random.key(0), 20_000), memory)
    cov = np.diag(memory.row_cov) if diagonal else memory.row_cov
    found = samples.reshape(-1, 6)  # of standard deviations about 1: errors of 0.01
    np.testing.assert_allclose(found.mean(axis=0), memory.mean.reshape(-1), atol=0.05)
    np.testing.assert_allclose(np.cov(found.T), np.kron(cov, np.eye(2)), atol=0.08)
    mean, var = _read(memory, weights, 0.5)
    read = np.einsum("tn,lnc->ltc", weights, samples)
    np.testing.assert_allclose(read.mean(axis=0), mean, atol=0.05 * np.sqrt(var.max()))
    np.testing.assert_allclose(read.var(axis=0), (var - 0.5)[:, None].repeat(2, 1), rtol=0.05)
    single_mean, single_var = kanerva.read(memory, weights[0], 0.5)
    np.testing.assert_allclose(single_mean, mean[0], rtol=1e-9)
    np.testing.assert_allclose(single_var, var[0], rtol=1e-9)


@pytest.mark.parametrize("diagonal", [False, True])
def test_kl_divergence_is_the_dense_one(x64, diagonal):
    memories = []
    for seed in (0, 1):
        memory, *_ = episode(1, 4, 3, seed=seed)
        if diagonal:
            memory = dataclasses.replace(memory, row_cov=jnp.diagonal(memory.row_cov))
        memories.append(memory)
    dense = []
    for memory in memories:
        cov = np.diag(memory.row_cov) if diagonal else np.asarray(memory.row_cov)
        dense += [np.ravel(memory.mean), np.kron(cov, np.eye(3))]
    divergence = jax.jit(kanerva.kl_divergence)
    np.testing.assert_allclose(divergence(*memories), oracles.gaussian_kl(*dense))
    np.testing.assert_allclose(divergence(memories[0], memories[0]), 0, atol=1e-9)


def test_prior():
    memory = kanerva.prior(3, 2, scale=4.0)
    np.testing.assert_array_equal(memory.row_cov, 4 * np.eye(3))
    assert memory.mean.shape == (3, 2) and not np.any(memory.mean)
    np.testing.assert_array_equal(kanerva.prior(3, 2, diagonal=True).row_cov, np.ones(3))


def test_address_weights_scale_rows_to_unit_norm():
    rng = np.random.default_rng(0)
    keys, matrix = rng.normal(size=(2, 5, 4)), rng.normal(size=(3, 4))
    expected = keys @ (matrix / np.linalg.norm(matrix, axis=1, keepdims=True)).T
    np.testing.assert_allclose(kanerva.address_weights(keys, matrix), expected, rtol=1e-5)
    total = jax.jit(jax.grad(lambda a: kanerva.address_weights(keys[0, 0], a).sum()))
    gradient = total(jnp.zeros((3, 4)))
    assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize(("num_slots", "code_size"), [(3, 7), (7, 3), (4, 4), (1, 1)])
def test_least_squares_weights_are_the_mode(x64, num_slots, code_size):
    rng = np.random.default_rng(0)
    memory, *_ = episode(1, num_slots, code_size)
    codes = rng.normal(size=(2, 5, code_size))
    solve = jax.jit(kanerva.least_squares_weights)
    found = solve(memory, codes, 0.3, prior_var=2.0)
    assert found.shape == (2, 5, num_slots)
    # Of -|z - w R|^2 / (2 noise_var) - |w|^2 / (2 prior_var).
    slope = (codes - found @ memory.mean) @ memory.mean.T / 0.3 - found / 2.0
    np.testing.assert_allclose(slope, 0, atol=1e-9)
    if num_slots == 3:
        single = solve(memory, codes[0, 0], 0.3, prior_var=2.0)
        np.testing.assert_allclose(single, found[0, 0], rtol=1e-9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"write_weights": jnp.ones((4, 6))}, r"write_weights is \(4, 6\).* N = 5"),
        ({"write_weights": jnp.ones(5)}, r"write_weights is \(5,\); it must be \[T, N\]"),
        ({"codes": jnp.ones((3, 3))}, r"codes is \(3, 3\); it must be \[T, C\] = \(4, 3\)"),
        ({"codes": jnp.ones((4, 3), int)}, "codes is int32; it must be floating-point"),
        ({"noise_var": jnp.ones(3)}, r"noise_var is \(3,\); it must be \[T\] = \(4,\)"),
        ({"noise_var": -1.0}, "noise_var is -1.0; it must not be negative"),
        ({"method": "fast"}, "method is 'fast'; it must be one of auto, batch"),
        (
            {"memory": KanervaState(jnp.ones((5, 3)), jnp.ones((5, 4)))},
            r"memory.row_cov is \(5, 4\); it must be \[N\] or \[N, N\] = \(5, 5\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused_while_tracing(changes, message):
    memory, weights, codes, _ = episode(4, 5, 3, dtype=np.float32)
    arguments = {"memory": memory, "write_weights": weights, "codes": codes, "noise_var": 1.0}
    arguments |= changes
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda: kanerva.write(**arguments))


def matrix_products(jaxpr):
    """The precisions of all products of matrices, those of inner programs too."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield equation.params["precision"]
        for inner in jax.tree.leaves(equation.params, is_leaf=lambda x: hasattr(x, "eqns")):
            if hasattr(inner, "eqns"):
                yield from matrix_products(getattr(inner, "jaxpr", inner))


@pytest.mark.parametrize("method", _METHODS)
@pytest.mark.parametrize("transform", [lambda f: f, jax.jit, jax.checkpoint])
def test_every_product_has_full_precision(method, transform):
    """A GPU or TPU would round otherwise; JAX traces the gradient after the function."""
    memory, weights, codes, _ = episode(4, 5, 3, dtype=np.float32)

    @transform
    def loss(weights, codes):
        after = kanerva.write(memory, weights, codes, 1.0, method=method)
        read_weights = kanerva.address_weights(codes, after.mean)
        return jnp.sum(kanerva.read(after, read_weights)[0]) + jnp.sum(after.row_cov)

    found = list(matrix_products(jax.make_jaxpr(jax.grad(loss, (0, 1)))(weights, codes).jaxpr))
    highest = jax.lax.Precision.HIGHEST
    assert len(found) > 10 and all(p in (highest, (highest, highest)) for p in found)


def test_sizes_and_pairs_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="num_slots is 0; it must be at least 1"):
        kanerva.prior(0, 3)
    with pytest.raises(ValueError, match=r"scale is 0\.0; it must be positive"):
        kanerva.prior(2, 3, scale=0.0)
    with pytest.raises(ValueError, match=r"memory_posterior.row_cov is \(2,\)"):
        kanerva.kl_divergence(kanerva.prior(2, 3, diagonal=True), kanerva.prior(2, 3))
    with pytest.raises(ValueError, match=r"read_weights is \(3,\)"):
        kanerva.read(kanerva.prior(2, 3), jnp.ones(3))
    with pytest.raises(ValueError, match=r"lookup_key is \(3,\)"):
        kanerva.address_weights(jnp.ones(3), jnp.ones((2, 4)))
    with pytest.raises(ValueError, match=r"codes is \(2,\)"):
        kanerva.least_squares_weights(kanerva.prior(2, 3), jnp.ones(2), 1.0)
