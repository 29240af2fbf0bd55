"""The estimators in narrow types: see `tests.narrow`; and VIMCO's signal, however small."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax import estimators
from tests import narrow, oracles
from tests.conftest import slow
from tests.narrow import normal

_KEY = jax.random.key(3)
_L = 40


def estimator(function, **options):
    """With the inputs themselves for the oracle: the gradient is not that of the value."""
    return lambda values: (function(**values, **options), values)


def surrogate(signals, value=oracles.log_mean_exp):
    """The bound, and terms whose gradient in the log probabilities the signals are."""

    def of(given, values):
        given = {name: np.asarray(value, np.float64) for name, value in given.items()}
        change = values["address_log_probs"] - given["address_log_probs"]
        bound = value(values["log_weights"])
        return np.array(bound + np.sum(signals(**given) * change))

    return of


def vimco(baseline):
    return surrogate(
        lambda log_weights, address_log_probs: oracles.vimco_learning_signals(log_weights, baseline)
    )


def reinforce_signal(log_weights, address_log_probs, baseline):
    del address_log_probs
    return oracles.log_mean_exp(log_weights) - baseline


def rloo_signals(log_weights, address_log_probs):
    size = len(address_log_probs)
    return (log_weights - log_weights.mean()) / (size - 1) + 1 / size


def ovis_signals(log_weights, address_log_probs, gamma):
    weights, size = oracles.softmax(log_weights), len(address_log_probs)
    return gamma * (weights + np.log(1 - 1 / size)) - np.log(1 - weights)


def unordered_set(given, values):
    """Weights and signals from the probabilities of all orders of the set; Kool et al. 2020."""
    probs = np.exp(np.asarray(given["address_log_probs"], np.float64))
    logs = np.asarray(given["log_weights"], np.float64)
    size = len(probs)
    orders = [(o, _chance(probs[list(o)])) for o in itertools.permutations(range(size))]
    total = sum(chance for _, chance in orders)
    first, pairs = np.zeros(size), np.zeros((size, size))
    for order, chance in orders:
        first[order[0]] += chance / total
        pairs[order[:2]] += chance / total * (1 - probs[order[0]])
    signals = (pairs * (logs[:, None] - logs[None, :])).sum(axis=1) + first
    return surrogate(lambda **_: signals, lambda x: first @ x)(given, values)


def _chance(probs):
    left = 1 - np.concatenate([[0.0], np.cumsum(probs)[:-1]])
    return np.prod(probs / left)


def sum_and_sample(given, values):
    """Of one that is summed and three that are sampled."""
    probs = np.exp(np.asarray(given["address_log_probs"], np.float64))
    logs = np.asarray(given["log_weights"], np.float64)
    shares = np.array([probs[0], *[(1 - probs[0]) / 3] * 3])
    others = [np.delete(logs[1:], i).mean() for i in range(3)]
    baselines = [probs[0] * logs[0] + (1 - probs[0]) * other for other in others]
    signals = shares * (logs - np.array([np.mean(baselines), *baselines])) + shares
    return surrogate(lambda **_: signals, lambda x: shares @ x)(given, values)


def drawn(sampler, **options):
    """The log probabilities; the addresses for the oracle."""
    return lambda values: sampler(_KEY, **values, **options)[::-1]


def chosen(addresses, values):
    return np.log(oracles.softmax(values["address_logits"]))[addresses]


def relaxed(function, **options):
    """With the logits themselves for the oracle."""
    return lambda values: (function(_KEY, num_samples=3, **options, **values), values)


def gumbel(rng_key, logits):
    """One-hot samples of given logits, from the same noise."""
    noise = np.asarray(jax.random.gumbel(rng_key, (3, len(logits)), jnp.float32), np.float64)
    return np.eye(len(logits))[np.argmax(logits + noise, axis=1)], logits + noise


def reinmax(given, values):
    logits = np.asarray(given["address_logits"], np.float64)
    hard, _ = gumbel(_KEY, logits)
    change = values["address_logits"] - logits
    probs = oracles.softmax(logits)
    middle = 0.5 * (hard + oracles.softmax(logits / float(given["temperature"])))

    def along(p):
        return p * (change - (p @ change)[..., None])

    return hard + 2 * along(middle) - 0.5 * along(probs)


def again(rng_key, log_probs, hard):
    """Perturbed log probabilities, given where they are largest."""
    waits = np.asarray(jax.random.exponential(rng_key, hard.shape, jnp.float32), np.float64)
    largest = (hard * waits).sum(axis=1, keepdims=True)
    others = -np.log(waits / np.exp(log_probs) + largest)
    return np.where(hard > 0, -np.log(largest), others)


def gumbel_rao(given, values):
    logits, temperature = (np.asarray(given[k], np.float64) for k in given)
    address_rng_key, noise_rng_key = jax.random.split(_KEY)
    hard, _ = gumbel(address_rng_key, logits)
    log_probs = np.log(oracles.softmax(logits))
    change = np.log(oracles.softmax(values["address_logits"])) - log_probs
    keys = jax.random.split(noise_rng_key, 2)
    noises = [again(rng_key, log_probs, hard) for rng_key in keys]
    soft = np.mean([oracles.softmax((n + change) / values["temperature"]) for n in noises], axis=0)
    return hard + soft - np.mean([oracles.softmax(n / temperature) for n in noises], axis=0)


def relax(given, values):
    """Of a linear bound and the sines' sum for a control, whose slopes are cosines."""
    before, after = (
        np.log(oracles.softmax(np.asarray(v["address_logits"], np.float64)))
        for v in (given, values)
    )
    noise_rng_key, again_rng_key = jax.random.split(_KEY)
    hard, perturbed = gumbel(noise_rng_key, before)
    value, old = hard.sum(axis=0) @ _SLOPES, again(again_rng_key, before, hard)
    change = (value - np.sin(old).sum()) * (hard @ (after - before)).sum()
    change += (np.cos(perturbed) * (after - before)).sum()
    return np.array(
        value + change - (np.cos(old) * (again(again_rng_key, after, hard) - old)).sum()
    )


def dreg(given, values):
    given = {name: np.asarray(value, np.float64) for name, value in given.items()}
    weights = oracles.softmax(given["log_weights"])[:, None]
    change = {name: values[name] - given[name] for name in values}
    own = values["latent"] - (1 - weights) * change["latent"]
    if "prior_latent" not in given:
        return own
    moved = change["prior_latent"]
    return own + (1 - weights) * moved, own - weights * moved


def nvil(given, values):
    bound, before = (oracles.log_mean_exp(given["log_weights"]), float(given["baseline"]))
    error = 0.5 * ((bound - values["baseline"]) ** 2 - (bound - before) ** 2)
    return surrogate(reinforce_signal)(given, values) - error


def exact(_, values):
    log_weights, log_probs = values["log_weights"], values["address_log_probs"]
    draws = [list(draw) for draw in itertools.product(range(len(log_weights)), repeat=3)]
    terms = [np.exp(log_probs[a].sum()) * oracles.log_mean_exp(log_weights[a]) for a in draws]
    return np.array(sum(terms))


def gumbel_softmax(_, values):
    noise = np.asarray(jax.random.gumbel(_KEY, (3, 7), jnp.float32), np.float64)
    return oracles.softmax((values["address_logits"] + noise) / values["temperature"])


_SAMPLES = {"log_weights": normal(_L) - 40, "address_log_probs": normal(1, _L)[0] - 5}
_EVERY = {
    "log_weights": normal(4) - 3,
    "address_log_probs": np.log(oracles.softmax(normal(1, 4)[0])),
}
_RELAXED = {"address_logits": normal(7), "temperature": 0.5}
_SET = _EVERY | {"address_log_probs": np.log([0.4, 0.1, 0.25, 0.125])}
_LATENTS = {"log_weights": normal(5), "latent": normal(5, 2)}
_SLOPES = normal(7)
CASES = {
    "iwae": (
        estimator(estimators.iwae),
        lambda _, values: np.array(oracles.log_mean_exp(values["log_weights"])),
        {"log_weights": _SAMPLES["log_weights"]},
    ),
    **{
        f"vimco {baseline}": (
            estimator(estimators.vimco, baseline=baseline),
            vimco(baseline),
            _SAMPLES,
        )
        for baseline in ("arithmetic", "geometric")
    },
    "reinforce": (
        estimator(estimators.reinforce),
        surrogate(reinforce_signal),
        _SAMPLES | {"baseline": -39.5},
    ),
    "nvil": (estimator(estimators.nvil), nvil, _SAMPLES | {"baseline": -38.0}),
    "reweighted_wake_sleep": (
        estimator(estimators.reweighted_wake_sleep),
        surrogate(lambda log_weights, address_log_probs: 2 * oracles.softmax(log_weights)),
        _SAMPLES,
    ),
    "gumbel_softmax": (relaxed(estimators.gumbel_softmax), gumbel_softmax, _RELAXED),
    "gumbel_rao": (relaxed(estimators.gumbel_rao, num_noises=2), gumbel_rao, _RELAXED),
    "reinmax": (relaxed(estimators.reinmax), reinmax, _RELAXED),
    "relax": (
        relaxed(
            estimators.relax,
            bound=lambda addresses: jnp.sum(addresses @ jnp.asarray(_SLOPES, addresses.dtype)),
            control=lambda perturbed: jnp.sum(jnp.sin(perturbed)),
        ),
        relax,
        {"address_logits": normal(7)},
    ),
    "rloo": (
        estimator(estimators.rloo),
        surrogate(rloo_signals, np.mean),
        _SAMPLES,
    ),
    "ovis": (
        estimator(estimators.ovis),
        surrogate(ovis_signals),
        _SAMPLES | {"gamma": 0.25},
    ),
    "unordered_set": (estimator(estimators.unordered_set), unordered_set, _SET),
    "sum_and_sample": (estimator(estimators.sum_and_sample, num_top=1), sum_and_sample, _SET),
    "sample_without_replacement": (
        drawn(estimators.sample_without_replacement, num_samples=3),
        chosen,
        {"address_logits": normal(7)},
    ),
    "sample_top_and_rest": (
        drawn(estimators.sample_top_and_rest, num_samples=3, num_top=1),
        chosen,
        {"address_logits": normal(7)},
    ),
    "dreg": (estimator(estimators.dreg), dreg, _LATENTS),
    "gdreg": (estimator(estimators.gdreg), dreg, _LATENTS | {"prior_latent": normal(1, 5, 2)[0]}),
    "exact": (estimator(estimators.exact, num_samples=3), exact, _EVERY),
}


def test_no_estimator_is_forgotten():
    assert {name.split()[0] for name in CASES} == set(estimators.__all__)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, pytest.param(jnp.float16, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_within_one_rounding(name, dtype):
    narrow.assert_right(CASES[name], dtype)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_numpy_and_lists_are_taken_and_what_is_no_array_of_reals_is_refused(name):
    narrow.assert_taken_from_numpy(CASES[name])
    narrow.assert_refused_in_one_line(CASES[name])


@pytest.mark.parametrize(
    ("num_samples", "dtype"),
    [
        slow(2, jnp.float32),
        slow(2, jnp.bfloat16),
        (2, jnp.float16),
        (64, jnp.float32),
        (64, jnp.bfloat16),
        (64, jnp.float16),
        (4096, jnp.float32),
        slow(4096, jnp.bfloat16),
        slow(4096, jnp.float16),
    ],
)
def test_vimco_signal_is_right_however_small(num_samples, dtype):
    """Within 1% of its largest entry: spread, nearly equal, and with one that is nearly all."""
    rng = np.random.default_rng(0)
    spread = rng.normal(size=num_samples)
    likely = np.where(np.arange(num_samples) == 1, np.log(num_samples) + 4, spread)
    near = 1e-5 * spread if dtype == jnp.float32 else 0.1 * spread  # float16 ends at 6e-8
    log_weights = jnp.asarray([0.5 * spread - 80, near, likely, 50 * spread], dtype)

    @jax.jit
    @jax.vmap
    def signals(log_weights):
        log_probs = jnp.full_like(log_weights, -3.0)
        return [
            jax.grad(estimators.vimco, argnums=1)(log_weights, log_probs, baseline)
            for baseline in ("arithmetic", "geometric")
        ]

    arithmetic, geometric = signals(log_weights)
    for row, weights in enumerate(np.asarray(log_weights, np.float64)):
        shifted = np.exp(weights - weights.max())
        rest = np.array([shifted[np.arange(num_samples) != 1].sum()])  # what the likely one leaves
        others = np.where(np.arange(num_samples) == 1, rest, shifted.sum() - shifted)
        for found, means in (
            (arithmetic, others / (num_samples - 1)),
            (geometric, np.exp((weights.sum() - weights) / (num_samples - 1) - weights.max())),
        ):
            right = np.log(shifted.sum()) - np.log(others + means)
            worst = np.max(np.abs(np.asarray(found[row], np.float64) - right))
            assert worst <= 0.01 * np.max(np.abs(right))


@pytest.mark.parametrize("baseline", ["arithmetic", "geometric"])
def test_vimco_signal_of_huge_and_of_equal_weights(baseline):
    signal = jax.jit(
        lambda log_weights: jax.grad(estimators.vimco, argnums=1)(
            log_weights, jnp.full(3, -3.0), baseline
        )
    )
    huge = [1e6, -1e6, 0.0]
    np.testing.assert_allclose(
        signal(jnp.array(huge)), oracles.vimco_learning_signals(huge, baseline), rtol=1e-5
    )
    np.testing.assert_array_equal(signal(jnp.full(3, -81.3)), 0.0)


def test_reweighted_wake_sleep_of_huge_weights():
    """At 1e6 float32 tells sixteenths apart: a bound is too coarse to normalise by."""
    log_weights = jnp.array([1e6, 1e6 - 0.5, 1e6 + 0.25])
    gradient = jax.grad(estimators.reweighted_wake_sleep, argnums=1)(log_weights, jnp.zeros(3))
    np.testing.assert_allclose(gradient, 2 * oracles.softmax(log_weights), rtol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_straight_through_is_exactly_one_hot(dtype):
    logits = jnp.asarray(normal(7), dtype)
    one_hot = estimators.gumbel_softmax(_KEY, logits, 200, 0.7, straight_through=True)
    assert set(np.unique(one_hot.astype(jnp.float32))) == {0.0, 1.0}


@pytest.mark.parametrize("temperature", [0.0, -1.0, np.nan])
def test_a_temperature_that_is_not_positive_is_refused(temperature):
    with pytest.raises(ValueError, match=f"temperature is {temperature}; it must be positive"):
        estimators.gumbel_softmax(_KEY, jnp.zeros(3), 1, temperature)
