"""A memory along a sequence: both methods beside an N x N solve at each step, in float64."""

import dataclasses
import functools
import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.memory import causal, kanerva
from memjax.memory.kanerva import KanervaState
from tests.conftest import slow
from tests.memory import causal_oracle
from tests.memory.test_kanerva import matrix_products

_METHODS = ("recurrent", "chunk")
_OPTIONS = ("inclusive", "method", "chunk_size", "num_iterations", "return_residual")

# Compiled once for all tests: what is called eagerly is compiled piece by piece.
attend = jax.jit(causal.attend, static_argnames=_OPTIONS)


def sequence(length, num_slots=6, code_size=3, *, kind="different", noise=1.0, seed=0):
    """A prior, weights, codes that they say of a drawn memory and noise, reads; all float64."""
    rng = np.random.default_rng(seed)
    memory = KanervaState(np.zeros((num_slots, code_size)), np.ones(num_slots))
    weights = causal_oracle.weights(kind, length, num_slots, rng)
    codes = weights @ rng.normal(size=(num_slots, code_size))
    codes = codes + noise**0.5 * rng.normal(size=codes.shape)
    reads = causal_oracle.weights("different", length, num_slots, rng)
    return memory, weights, codes, reads, np.full(length, noise)


def general(length, seed=1):
    """A sequence with any noise, and a prior with a mean and correlated rows."""
    rng = np.random.default_rng(seed)
    memory, weights, codes, reads, _ = sequence(length, seed=seed)
    root = rng.normal(size=(6, 6))
    memory = KanervaState(rng.normal(size=(6, 3)), root @ root.T / 6 + 0.3 * np.eye(6))
    return memory, 2 * weights, codes, 2 * reads, rng.uniform(0.2, 2.0, length)


def decays(length, rng):
    """Logarithms: blocks of "recurrent" take the first, the later ones are done step by step."""
    return -np.where(np.arange(length) < 32, 0.3, 3.0) * rng.uniform(size=length)


def masks(length, seed=2):
    """Some steps masked, some that begin anew; decays everywhere, strong ones from step 32 on."""
    rng = np.random.default_rng(seed)
    return {
        "log_decay": decays(length, rng),
        "mask": rng.uniform(size=length) < 0.8,
        "reset": rng.uniform(size=length) < 0.1,
    }


def as_type(dtype, tree):
    return jax.tree.map(lambda x: x if x.dtype == bool else jnp.asarray(x, dtype), tree)


def assert_near(found, expected, tolerance):
    """Relative to the largest mean, and absolutely in variances: priors have a variance near 1."""
    np.testing.assert_allclose(
        found[0], expected[0], rtol=0, atol=tolerance * np.max(np.abs(expected[0]), initial=1e-12)
    )
    np.testing.assert_allclose(found[1], expected[1], rtol=0, atol=tolerance)


# ---------------------------------------------------------------------------- against the oracle


@pytest.mark.parametrize("method", _METHODS)
@pytest.mark.parametrize("words", ["", slow("log_decay"), "log_decay mask reset"])
def test_definition(float64, method, words):
    arguments, options = general(45), {k: v for k, v in masks(45).items() if k in words.split()}
    for inclusive in (True, False) if words else (True,):
        found = attend(*arguments, **options, inclusive=inclusive, method=method, chunk_size=16)
        expected = causal_oracle.attend(*arguments, **options, inclusive=inclusive)
        assert_near(found, expected, 1e-9)


_KINDS, _DECAYS = (
    ["different", "one", "four", "clusters"],
    ["none", "weak", "middle", "strong", "rare"],
)
# Each kind and each decay; and all of the others with them are slow.
_QUICK = [*zip(_KINDS, _DECAYS, strict=False), ("different", "rare"), ("one", "none")]


@pytest.mark.parametrize(
    ("kind", "decay"),
    [pair if pair in _QUICK else slow(*pair) for pair in itertools.product(_KINDS, _DECAYS)],
)
def test_exactness_in_float32(kind, decay):
    """The docstring's claims, at T = 512, N = 6."""
    for noise in (1.0, 0.1):
        arguments = as_type(np.float32, sequence(512, kind=kind, noise=noise))
        log_decay = causal_oracle.log_decays(decay, 512, np.random.default_rng(3))
        log_decay = None if log_decay is None else jnp.asarray(log_decay, jnp.float32)
        expected = causal_oracle.attend(*arguments, log_decay=log_decay)
        found = attend(*arguments, log_decay=log_decay, method="recurrent")
        assert_near(found, expected, 1e-5)
        *found, residual = attend(
            *arguments, log_decay=log_decay, method="chunk", return_residual=True
        )
        assert residual < 1e-4
        assert_near(found, expected, 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("decay", _DECAYS)
def test_exactness_of_long_sequences(kind, decay):
    for noise in (1.0, 0.1):
        arguments = as_type(np.float32, sequence(32_768, 32, kind=kind, noise=noise))
        log_decay = causal_oracle.log_decays(decay, 32_768, np.random.default_rng(3))
        log_decay = None if log_decay is None else jnp.asarray(log_decay, jnp.float32)
        expected = causal_oracle.attend(*arguments, log_decay=log_decay)
        found = attend(*arguments, log_decay=log_decay, method="recurrent")
        assert_near(found, expected, 1e-5 / noise)
        *found, residual = attend(
            *arguments, log_decay=log_decay, method="chunk", return_residual=True
        )
        assert residual < 1e-3
        assert_near(found, expected, 1e-4 / noise)


@pytest.mark.parametrize("noise", [1e-4, 0.0])
def test_recurrent_at_small_noise(noise):
    """Where `kanerva.write` is right, and each prefix at once."""
    memory, weights, codes, reads, _ = sequence(24, kind="four", noise=noise)
    arguments = as_type(np.float32, (memory, weights, codes, reads, np.full(24, noise)))
    found = attend(*arguments, method="recurrent")
    least = max(noise, 1e-8)
    expected = causal_oracle.attend(*arguments[:4], np.full(24, least))
    assert_near(found, expected, 1e-4 if noise else 1e-3)
    unread = attend(*arguments[:4], np.full(24, np.inf, np.float32), method="recurrent")
    assert_near(unread, (np.zeros((24, 3)), np.sum(np.square(reads), axis=1)), 1e-6)


def test_chunk_says_that_it_is_not_exact():
    """Different weights at little noise: iterations don't suffice, and the residual says so."""
    arguments = as_type(np.float32, sequence(64, 32, noise=1e-3))
    expected = causal_oracle.attend(*arguments)
    off = []
    for count in (4, 32):
        *found, residual = attend(
            *arguments, method="chunk", num_iterations=count, return_residual=True
        )
        off.append((np.max(np.abs(found[0] - expected[0])), residual))
    assert off[0][0] > 0.1 and off[0][1] > 0.1
    assert off[1][1] < off[0][1]
    assert attend(*arguments, method="recurrent", return_residual=True)[3] == 0.0


# -------------------------------------------------------------------------------------- gradients


def _plain(memory, weights, codes, reads, noise, log_decay):
    """The definition in JAX, for its derivative."""
    prior = jnp.linalg.inv(0.5 * (memory.row_cov + memory.row_cov.T))

    def step(carry, given):
        weight, code, read, noise, log_decay = given
        precision, information = jax.tree.map(lambda x: jnp.exp(log_decay) * x, carry)
        precision = precision + jnp.outer(weight, weight) / noise
        information = information + jnp.outer(weight, code - weight @ memory.mean) / noise
        solved = jnp.linalg.solve(prior + precision, read)
        result = read @ memory.mean + solved @ information, read @ solved
        return (precision, information), result

    start = jnp.zeros_like(prior), jnp.zeros_like(memory.mean)
    return jax.lax.scan(step, start, (weights, codes, reads, noise, log_decay))[1]


@functools.cache
def _gradient(method):
    def loss(*arguments):
        *rest, log_decay = arguments
        if method == "plain":
            means, variances = _plain(*arguments)
        else:
            means, variances, _ = causal.attend(
                *rest, log_decay=log_decay, method=method, chunk_size=16
            )
        return jnp.sum(jnp.sin(means)) + jnp.sum(jnp.square(variances))

    return jax.jit(jax.grad(loss, argnums=tuple(range(6))))


@pytest.mark.parametrize(
    ("method", "dtype", "tolerance"),
    [
        slow("recurrent", np.float64, 1e-9),
        slow("recurrent", np.float32, 2e-5),
        slow("chunk", np.float64, 1e-9),
        ("chunk", np.float32, 2e-5),
    ],
)
def test_gradients(method, dtype, tolerance):
    """In every argument, the prior too."""
    arguments = (*general(45), decays(45, np.random.default_rng(4)))
    with jax.enable_x64(True):
        expected = jax.tree.map(np.asarray, _gradient("plain")(*as_type(np.float64, arguments)))
    with jax.enable_x64(dtype == np.float64):
        found = jax.tree.map(np.asarray, _gradient(method)(*as_type(dtype, arguments)))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.max(np.abs(b)))


@pytest.mark.parametrize("method", _METHODS)
@pytest.mark.parametrize("transform", [slow(jax.jit), jax.checkpoint])
def test_every_product_has_full_precision(method, transform):
    """A GPU or TPU would round otherwise; JAX traces the gradient after the function."""
    arguments = as_type(np.float32, (*general(5), -np.ones(5)))

    @transform
    def loss(weights, codes, log_decay):
        memory, _, _, reads, noise, _ = arguments
        found = causal.attend(
            memory, weights, codes, reads, noise, log_decay=log_decay, method=method
        )
        return jnp.sum(found[0]) + jnp.sum(found[1]) + jnp.sum(found[2].mean)

    given = (arguments[1], arguments[2], arguments[5])
    found = list(matrix_products(jax.make_jaxpr(jax.grad(loss, (0, 1, 2)))(*given).jaxpr))
    highest = jax.lax.Precision.HIGHEST
    assert len(found) > 10 and all(p in (highest, (highest, highest)) for p in found)


# ------------------------------------------------------------------------ masks, resets, decoding


def _padded(places, tree, value):
    """Steps put at `places` among others that hold `value`."""

    def pad(x):
        filled = np.full((len(places), *x.shape[1:]), value, x.dtype)
        filled[places] = x
        return filled

    return jax.tree.map(pad, tree)


def _masked(decays):
    """Steps, the same among masked ones that hold NaN, and where they stand there."""
    memory, *steps = as_type(np.float32, general(20))
    steps.append(jnp.asarray(masks(20)["log_decay"], jnp.float32) if decays else None)
    places = np.zeros(45, bool)
    places[np.random.default_rng(5).permutation(45)[:20]] = True
    return memory, steps, _padded(places, jax.tree.map(np.asarray, steps), np.nan), places


@pytest.mark.parametrize("decays", [slow(False), True])
def test_masked_steps_change_no_bit(decays):
    """Where all is exact."""
    memory, (*steps, log_decay), (*padded, padded_decay), places = _masked(decays)
    means, variances, after = attend(
        memory, *padded, log_decay=padded_decay, mask=places, method="recurrent"
    )
    alone = attend(memory, *steps, log_decay=log_decay, method="recurrent")
    found = means[places], variances[places], after
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(alone), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.any(means[~places]) and not np.any(variances[~places])


@pytest.mark.parametrize("method", [slow("recurrent"), "chunk"])
def test_masked_steps_get_no_gradient(method):
    """Whatever stands there; those that are not masked give what they give alone."""
    memory, steps, padded, places = _masked(True)

    @partial(jax.jit, static_argnames="is_padded")
    def gradient(steps, is_padded):
        def loss(steps):
            *given, log_decay = steps
            mask = places if is_padded else None
            options = {"log_decay": log_decay, "mask": mask, "method": method, "chunk_size": 8}
            means, variances, _ = causal.attend(memory, *given, **options)
            return jnp.sum(jnp.sin(means)) + jnp.sum(variances**2)

        return jax.value_and_grad(loss)(steps)

    (value, gradients), (own_value, own) = gradient(padded, True), gradient(steps, False)
    np.testing.assert_allclose(value, own_value, rtol=1e-5)
    for found, expected in zip(gradients, own, strict=True):
        assert not np.any(found[~places])
        np.testing.assert_allclose(found[places], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", _METHODS)
def test_packed_sequences_are_separate_ones(method):
    """Each begins with what `memory` holds, where a reset stands on a masked step too."""
    memory, *steps = as_type(np.float32, general(40))
    log_decay = jnp.asarray(masks(40)["log_decay"], jnp.float32)

    def attend_alone(part, mask):
        """Steps at the beginning of 19, the others masked: compiled once for all parts."""
        count = len(mask[part])
        places = np.arange(19) < count
        given = jax.tree.map(np.asarray, ([x[part] for x in steps], log_decay[part], mask[part]))
        own, own_decay, own_mask = _padded(places, given, 0)
        options = {"log_decay": own_decay, "mask": own_mask}
        means, variances, after = attend(memory, *own, **options, method="recurrent")
        return means[:count], variances[:count], after

    memory = attend_alone(slice(9), np.ones(40, bool))[2]
    starts = (0, 7, 8, 21, 40)
    reset = np.isin(np.arange(40), starts)
    mask = ~np.isin(np.arange(40), (7, 30))
    options = {"log_decay": log_decay, "mask": mask}
    found = attend(memory, *steps, **options, reset=reset, method=method, chunk_size=16)
    for start, end in itertools.pairwise(starts):
        part = slice(start, end)
        alone = attend_alone(part, mask)
        for a, b in zip(found[:2], alone[:2], strict=True):
            np.testing.assert_allclose(a[part], b, rtol=1e-4, atol=1e-5)
    after, own_after = (causal.posterior(state) for state in (found[2], alone[2]))
    for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(own_after), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", _METHODS)
def test_the_memory_goes_on_where_the_sequence_ended(method):
    """One token at a time gives what the whole sequence gives."""
    memory, *steps = as_type(np.float32, general(45))
    log_decay = jnp.asarray(masks(45)["log_decay"], jnp.float32)
    *whole, _ = attend(memory, *steps, log_decay=log_decay, method="recurrent")
    start = [x[:40] for x in steps]
    state = attend(memory, *start, log_decay=log_decay[:40], method=method, chunk_size=16)[2]
    for t in range(40, 45):
        one = [x[t : t + 1] for x in steps]
        mean, variance, state = attend(state, *one, log_decay=log_decay[t : t + 1])
        np.testing.assert_allclose(mean[0], whole[0][t], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(variance[0], whole[1][t], rtol=1e-4, atol=1e-5)


def test_memories_at_once():
    """Of which one decays little and one much, and one is NaN from its fourth step on."""
    memory, *steps = as_type(np.float32, general(20))
    log_decay = jnp.outer(jnp.array([-0.01, -2.0]), jnp.ones(20))
    log_decay = jnp.vstack([log_decay, log_decay.at[0, 3].set(jnp.nan)[0]])
    at_once = jax.jit(
        jax.vmap(lambda told: attend(memory, *steps, log_decay=told, method="recurrent")[:2])
    )
    found = at_once(log_decay)
    assert np.all(np.isnan(found[0][2, 3:]))
    assert jax.eval_shape(at_once, log_decay[:0])[0].shape == (0, *found[0].shape[1:])
    for i in range(2):
        expected = causal_oracle.attend(memory, *steps, log_decay=log_decay[i])
        assert_near(jax.tree.map(lambda x, i=i: x[i], found), expected, 1e-5)


def test_the_posterior_is_what_kanerva_writes(float64):
    memory, weights, codes, reads, noise = general(9)
    expected = kanerva.write(memory, weights, codes, noise)
    for method in _METHODS:
        state = attend(memory, weights, codes, reads, noise, method=method)[2]
        for a, b in zip(
            jax.tree.leaves(causal.posterior(state)), jax.tree.leaves(expected), strict=True
        ):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10)
    begun = causal.posterior(causal.begin(memory))
    np.testing.assert_allclose(begun.row_cov, memory.row_cov, rtol=1e-12, atol=1e-12)
    diagonal = causal.begin(KanervaState(memory.mean, np.array([0.0, 1, 2, 3, 4, 5])))
    np.testing.assert_allclose(causal.posterior(diagonal).row_cov, np.diag(np.arange(6.0)))


# ----------------------------------------------------------------------------------------- limits


def test_mesanet():
    """Its read, by its own formula, with a ridge for each slot."""
    _, keys, values, queries, _ = sequence(60)
    rng = np.random.default_rng(6)
    strengths, decays = rng.uniform(0.1, 1.0, 60), rng.uniform(0.8, 1.0, 60)
    ridge = rng.uniform(0.25, 4.0, 6)
    expected = causal_oracle.mesa(keys, values, queries, strengths, decays, ridge)
    memory = KanervaState(np.zeros((6, 3)), 1.0 / ridge)
    for method in _METHODS:
        found, _, _ = attend(
            *as_type(np.float32, (memory, keys, values, queries, 1.0 / strengths)),
            log_decay=jnp.asarray(np.log(decays), jnp.float32),
            method=method,
        )
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.max(np.abs(expected)))


def test_much_noise_is_linear_attention(float64):
    """The covariance stays uniform: noise times the mean is the decayed sum of (q w') z."""
    memory, weights, codes, reads, _ = sequence(30)
    log_decay = masks(30)["log_decay"]
    total, expected = np.zeros((6, 3)), []
    for t in range(30):
        total = np.exp(log_decay[t]) * total + np.outer(weights[t], codes[t])
        expected.append(reads[t] @ total)
    for method in _METHODS:
        found, _, _ = attend(
            memory, weights, codes, reads, np.full(30, 1e9), log_decay=log_decay, method=method
        )
        np.testing.assert_allclose(1e9 * found, np.stack(expected), atol=1e-6)


def test_a_forgotten_covariance_is_the_delta_rule(float64):
    """One gradient step a write: the covariance is uniform before each, and nothing decays.

    The step is of size 1 / (noise + |w|^2), along the gradient of |z - w R|^2 / 2.
    """
    memory, weights, codes, reads, noise = sequence(12)
    slots = np.zeros((6, 3))
    for t in range(12):
        one = [x[t : t + 1] for x in (weights, codes, reads, noise)]
        found, _, after = attend(memory, *one)
        step_size = 1.0 / (noise[t] + weights[t] @ weights[t])
        slots = slots + step_size * np.outer(weights[t], codes[t] - weights[t] @ slots)
        np.testing.assert_allclose(found[0], reads[t] @ slots, rtol=1e-9, atol=1e-12)
        memory = KanervaState(causal.posterior(after).mean, memory.row_cov)


# ------------------------------------------------------------------------- types, shapes, refusals


@pytest.mark.parametrize("method", [slow("recurrent"), "chunk"])
def test_bfloat16_is_finite_and_float32_inside(method):
    arguments = as_type(jnp.bfloat16, sequence(300, 8, kind="clusters", noise=0.1))
    log_decay = jnp.full(300, -0.01, jnp.bfloat16)
    found = attend(*arguments, log_decay=log_decay, method=method)
    assert found[0].dtype == found[1].dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(found[2])} == {jnp.dtype(jnp.float32)}
    wide = as_type(np.float32, arguments)
    expected = causal_oracle.attend(*wide, log_decay=log_decay.astype(jnp.float32))
    assert_near(jax.tree.map(lambda x: x.astype(np.float32), found[:2]), expected, 5e-3)


@pytest.mark.parametrize("method", [*_METHODS, "auto"])
@pytest.mark.parametrize("length", [0, 1])
def test_sequences_of_no_step_and_of_one(method, length):
    memory, *steps = as_type(np.float32, general(3))
    steps = [x[:length] for x in steps]
    options = {"log_decay": jnp.zeros(length), "mask": np.ones(length, bool)}
    found = attend(memory, *steps, **options, reset=np.zeros(length, bool), method=method)
    assert found[0].shape == (length, 3) and found[1].shape == (length,)
    assert_near(found, causal_oracle.attend(memory, *steps), 1e-5)


def test_auto_is_recurrent_where_that_is_faster():
    memory, *steps = as_type(np.float32, general(100))

    def program(steps, **options):
        return str(jax.make_jaxpr(partial(causal.attend, memory, **options))(*steps))

    short = [x[:64] for x in steps]
    assert program(short) == program(short, method="recurrent")
    assert program(steps) == program(steps, method="recurrent")
    decays = {"log_decay": jnp.zeros(100)}
    assert program(steps, **decays) == program(steps, **decays, method="chunk")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"write_weights": jnp.ones((4, 5))}, r"write_weights is \(4, 5\); it must be \[..., N\]"),
        ({"codes": jnp.ones((3, 3))}, r"codes is \(3, 3\); it must be \[T, C\] = \(4, 3\)"),
        ({"read_weights": jnp.ones((3, 6))}, r"read_weights is \(3, 6\); it must be \[T, N\] ="),
        ({"noise_var": jnp.ones(3)}, r"noise_var is \(3,\); it must be \[T\] = \(4,\)"),
        ({"noise_var": np.array([1.0, -2, 1, 1])}, r"noise_var has -2.0; it must not be negative"),
        ({"log_decay": jnp.ones(3)}, r"log_decay is \(3,\); it must be \[T\] = \(4,\)"),
        ({"log_decay": np.array([0, 0.5, 0, 0])}, r"log_decay has 0.5; it must be at most 0"),
        ({"mask": np.ones(3, bool)}, r"mask is bool\[3\]; it must be bool\[4\]"),
        ({"mask": np.ones(4)}, r"mask is float\d+\[4\]; it must be bool\[4\]"),
        ({"reset": np.ones(5, bool)}, r"reset is bool\[5\]; it must be bool\[4\]"),
        ({"reset": "yes"}, "reset is 'yes'; it must be an array of bool"),
        ({"method": "fast"}, "method is 'fast'; it must be one of auto, recurrent, chunk"),
        ({"chunk_size": 0}, "chunk_size is 0; it must be at least 1"),
        ({"num_iterations": 0}, "num_iterations is 0; it must be at least 1"),
        ({"memory": {}}, "memory is a dict; it must be a CausalState or a KanervaState"),
        (
            {"memory": KanervaState(jnp.ones((6, 3)), jnp.ones((6, 5)))},
            r"memory.row_cov is \(6, 5\); it must be \[N\] or \[N, N\] = \(6, 6\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused_while_tracing(changes, message):
    memory, *steps = as_type(np.float32, general(4))
    names = ("write_weights", "codes", "read_weights", "noise_var")
    arguments = {"memory": memory, **dict(zip(names, steps, strict=True))} | changes
    with pytest.raises(ValueError, match=message) as refused:
        jax.eval_shape(lambda: causal.attend(**arguments))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("field", ["prior_root", "mean", "root", "precision"])
def test_a_state_of_another_size_is_refused(field):
    memory, *steps = as_type(np.float32, general(4))
    state = dataclasses.replace(causal.begin(memory), **{field: jnp.ones((5, 5))})
    with pytest.raises(ValueError, match=rf"memory.{field} is \(5, 5\); it must be \[N"):
        jax.eval_shape(lambda: causal.attend(state, *steps))
